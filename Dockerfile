# syntax=docker/dockerfile:1
# Two images: `api`, also for the relay and the migrations, without torch; and `worker`.
FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PARETOFIT_HOME=/var/lib/paretofit
RUN groupadd --gid 10001 paretofit \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/paretofit --shell /usr/sbin/nologin paretofit \
 && install -d -o paretofit -g paretofit -m 0750 /var/lib/paretofit
WORKDIR /src
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY api api
COPY core core
COPY db db
COPY launch launch
COPY models models
COPY paretofit paretofit
COPY search search
COPY workers workers

# Pip's own variables select the package index; pass PIP_INDEX_URL and PIP_EXTRA_INDEX_URL as build arguments.
FROM base AS api
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN pip install -c constraints.txt '.[server]'
WORKDIR /var/lib/paretofit
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "paretofit.api"]

FROM base AS worker
# The index determines the build of torch: the one on PyPI for x86-64 runs on CPUs and CUDA devices.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN pip install -c constraints.txt '.[worker,export]'
WORKDIR /var/lib/paretofit
USER 10001:10001
CMD ["python", "-m", "paretofit.workers", "light"]
