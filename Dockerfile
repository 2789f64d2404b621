# Builds the environment in one stage and runs without build tools, as nobody, in the next.
FROM python:3.12-slim AS build
WORKDIR /app
COPY pyproject.toml README.md ./
COPY config/requirements.lock config/requirements.lock
COPY gateway gateway
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --require-hashes -r config/requirements.lock \
    && .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation -e .

FROM python:3.12-slim
WORKDIR /app
RUN useradd --uid 10001 --no-create-home gateway && install -d -o gateway -m 0700 /data
COPY --from=build /app /app
COPY static static
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATEWAY_STORE=sqlite:////data/gateway.db \
    GATEWAY_HOST=0.0.0.0
USER gateway
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8001/readyz', timeout=2)"]
CMD ["gateway", "serve"]
