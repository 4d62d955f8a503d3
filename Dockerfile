# What every program of a team runs in: code server, web server, daemon, MLflow, Ray.
FROM python:3.12-slim
WORKDIR /opt/lem
RUN useradd --create-home lem && mkdir -p /srv/lem /opt/dagster/storage && chown -R lem /srv/lem /opt/dagster
COPY pyproject.toml README.md ./
COPY lem_models lem_models
COPY lem_pipeline lem_pipeline
COPY sql sql
COPY deploy deploy
RUN pip install --no-cache-dir --editable '.[team]'
RUN cat lem_pipeline/dagster.yaml lem_pipeline/dagster_postgres.yaml > /opt/dagster/dagster.yaml
ENV DAGSTER_HOME=/opt/dagster MLFLOW_DISABLE_TELEMETRY=true OMP_WAIT_POLICY=PASSIVE
USER lem
