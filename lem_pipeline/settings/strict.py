"""What all settings have in common."""

from pydantic import BaseModel, ConfigDict

STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Strict(BaseModel):
    """Settings that refuse names they do not know."""

    model_config = STRICT
