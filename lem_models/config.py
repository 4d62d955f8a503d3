"""Everything that fixes a model and its training, as plain values."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from lem_models.orders import InformationSet, Limits

Recurrence = Literal["tkan", "lstm", "gru", "none"]
Prior = Literal["stopping", "curve"]
Risk = Literal["variance", "cvar"]
Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True)
class LEMConfig:
    """Everything that fixes the shape of a model.

    Attributes:
        features: Names of the feature columns, in order.
        lookback: Bars of history, L, including the row of the order's first bar.
        horizon: Bars granted to an order, H.
        width: Hidden width, D.
        variable_selection: Weighs the features bar by bar; False for one affine map of all of them.
        embedding: Width of one feature's embedding, where features are selected.
        attention_heads: Heads of the causal self-attention; divides ``width``.
        recurrence: What carries the past from bar to bar before attention: TKAN layers, torch's LSTM or GRU of the same
            width and depth, or ``none``, where a learned vector per row tells attention which bar came when.
        recurrent_layers: Stacked layers of the recurrence.
        memories: KAN memories per TKAN layer.
        memory_width: Width of each KAN memory.
        head_width: Hidden width of the allocation heads.
        independent_heads: True for one set of head weights per order, as in the paper.
        own_readout: True for a last layer of its own for every order and bar, beside the shared one: a closer hedge
            where windows never run out, and more to learn by heart where they do.
        prior: What untrained heads answer: ``stopping``, the optimum without forecasts, or ``curve``, a base curve that
            leaves all stopping to be learned.
        information_set: What the rows of features tell. ``causal``: row t, what is known before bar t. ``same_bar``:
            what is known after it, as in the published code; it serves to measure that look-ahead and is never
            registered. ``MarketPanel.orders`` says what exactly is seen.
        floor: Least fraction of the order per bar.
        cap: Greatest fraction of the order per bar.
    """

    features: tuple[str, ...] = ()
    lookback: int = 48
    horizon: int = 12
    width: int = 32
    variable_selection: bool = True
    embedding: int = 8
    attention_heads: int = 4
    recurrence: Recurrence = "tkan"
    recurrent_layers: int = 2
    memories: int = 1
    memory_width: int = 16
    head_width: int = 32
    independent_heads: bool = False
    own_readout: bool = False
    prior: Prior = "stopping"
    information_set: InformationSet = "causal"
    floor: float = 0.0
    cap: float = 1.0

    def __post_init__(self) -> None:
        if self.lookback < 2:
            raise ValueError(f"lookback is {self.lookback}; a model needs at least 2 bars of history")
        if self.width % self.attention_heads:
            raise ValueError(f"width {self.width} is not a multiple of attention_heads {self.attention_heads}")
        if self.recurrent_layers < 1:
            raise ValueError(f"recurrent_layers is {self.recurrent_layers}; for none at all set recurrence to 'none'")
        _refuse_unknown(self, recurrence=Recurrence, prior=Prior, information_set=InformationSet)
        _ = self.limits  # which refuses those that no order could be filled under

    @property
    def limits(self) -> Limits:
        """Participation limits of its orders."""
        return Limits(horizon=self.horizon, floor=self.floor, cap=self.cap)

    @classmethod
    def paper(cls, features: tuple[str, ...]) -> Self:
        """The sizes of the paper: lookback 120, 200 units, embeddings of 20, 8 heads, MLPs of 100."""
        return cls(
            features,
            lookback=120,
            width=200,
            embedding=20,
            attention_heads=8,
            memory_width=200,
            head_width=100,
            independent_heads=True,
            prior="curve",
        )

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(**{**fields, "features": tuple(fields["features"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values that survive JSON."""
        return {**asdict(self), "features": list(self.features)}


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is fitted.

    Attributes:
        batch_size: Windows per step, of all processes together; each carries the whole order grid.
        batches_per_epoch: Steps between validations.
        validation_orders: Windows per validation, evenly spread over the split.
        max_epochs: Upper bound of epochs; the learning rate falls to zero there.
        patience: Epochs without a better validation loss before training stops.
        learning_rate: Peak of the one-cycle schedule.
        risk: What a schedule is wary of: ``variance``, squared slippage, or ``cvar``, the mean slippage of the worst
            orders.
        risk_aversion: Weight of that risk: in training, relative to the dispersion of the order
            (``objective.stop_and_hedge``); in validation, per σ of one bar (``objective.mean_dispersion``).
        cvar_level: Part of the orders that are not among the worst.
        gradient_clip: Greatest gradient norm.
        seed: Fixes initial weights and window sampling.
        threads: CPU threads. Small models are not faster on two, and several times slower where a neighbour keeps one
            of the cores busy.
        devices: Processes that train together on this machine: GPUs where there are any, else cores. The result is the
            same to rounding, so it is no part of what a model is made of. ``torchrun`` brings as many as it starts, on
            as many machines, whatever is set here.
        precision: ``bf16-mixed`` multiplies matrices of the network in bfloat16 while it trains. Weights, fills and
            costs stay in float32, and so does the finished model.
        compile: Lets torch.compile translate the network first, which takes minutes and pays on a GPU, if anywhere.
    """

    batch_size: int = 128
    batches_per_epoch: int = 40
    validation_orders: int = 512
    max_epochs: int = 8
    patience: int = 4
    learning_rate: float = 1e-2
    risk: Risk = "variance"
    risk_aversion: float = 0.1
    cvar_level: float = 0.95
    gradient_clip: float = 1.0
    seed: int = 0
    threads: int = 1
    devices: int = 1
    precision: Precision = "32-true"
    compile: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.cvar_level < 1:
            raise ValueError(f"cvar_level is {self.cvar_level}; it is a part of the orders, between 0 and 1")
        if self.devices < 1:
            raise ValueError(f"devices is {self.devices}; one process trains at least")
        self.refuse_world(self.devices)
        _refuse_unknown(self, risk=Risk, precision=Precision)

    def refuse_world(self, processes: int) -> None:
        """Refuse a number of processes that cannot share a batch equally.

        Raises:
            ValueError: It does not divide the batch.
        """
        if self.batch_size % processes:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of {processes} devices; each takes as many windows"
            )

    def made_of(self) -> dict[str, Any]:
        """What the result depends on beyond rounding: everything but the number of processes."""
        return {name: value for name, value in asdict(self).items() if name != "devices"}

    @property
    def aversion(self) -> tuple[float, float | None]:
        """Weight of the risk, and the level of CVaR where that is the risk: what ``objective`` asks for."""
        return self.risk_aversion, self.cvar_level if self.risk == "cvar" else None


def _refuse_unknown(config: LEMConfig | TrainingConfig, **choices: Any) -> None:
    for name, known in choices.items():
        if (chosen := getattr(config, name)) not in get_args(known):
            raise ValueError(f"{name} is {chosen!r}; it is one of {', '.join(get_args(known))}")
