# What makes mirrors: the command line with Dask, NIfTI and S3. Scheduler and workers are this image too, with
# `dask scheduler` or `dask worker` as entrypoint.
# Build from the root of the repository: docker build --file infra/docker/converter.Dockerfile .

# One base for both stages: .venv points to this Python by its path.
FROM python:3.13.14-slim-trixie AS base

FROM base AS build
# Bytecode is compiled here because the final file system is read-only. uv must take this Python, and not fetch one.
ENV UV_CACHE_DIR=/var/cache/uv \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON=/usr/local/bin/python3.13 \
    UV_PYTHON_DOWNLOADS=never
# The version of infra/bootstrap.sh; tests/infra holds the two together.
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /app
# Packages before code: they change seldom, so most builds find this layer made.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/var/cache/uv \
    uv sync --locked --no-dev --no-default-groups --no-editable --no-install-project --extra convert --extra dashboard
COPY README.md LICENSE ./
COPY corpus corpus
COPY converter converter
COPY service service
COPY voxshelf voxshelf
RUN --mount=type=cache,target=/var/cache/uv \
    uv sync --locked --no-dev --no-default-groups --no-editable --extra convert --extra dashboard

FROM base
# HOME: libraries look there for settings, and the user has no home of its own.
ENV HOME=/tmp \
    PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1
COPY --from=build /app/.venv /app/.venv
# A number, since Kubernetes cannot tell from a name that it is not root. The files stay root's: nobody here may
# change them.
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["voxshelf"]
CMD ["--help"]
