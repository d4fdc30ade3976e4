# syntax=docker/dockerfile:1
# Two images: `api` (also the relay and the migrations; without torch) and `worker`.
FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PARETOFIT_HOME=/var/lib/paretofit
RUN groupadd --gid 10001 paretofit \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/paretofit --shell /usr/sbin/nologin paretofit \
 && install -d -o paretofit -g paretofit -m 0750 /var/lib/paretofit
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE cores.py legible.py logs.py outbound.py settings.py signing.py tracing.py ./
COPY api api
COPY benchmarks benchmarks
COPY db db
COPY docs docs
COPY launch launch
COPY models models
COPY paretofit paretofit
COPY search search
COPY workers workers

FROM base AS api
RUN pip install -c constraints.txt '.[server]'
WORKDIR /var/lib/paretofit
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "api"]

FROM base AS worker
# The torch of PyPI for x86-64 runs on CPUs and CUDA devices. TORCH_INDEX=https://download.pytorch.org/whl/cpu makes a
# smaller image without CUDA; another folder there chooses a CUDA release.
ARG TORCH_INDEX=https://pypi.org/simple
RUN pip install -c constraints.txt --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple torch \
 && pip install -c constraints.txt '.[worker,export]'
WORKDIR /var/lib/paretofit
USER 10001:10001
CMD ["python", "-m", "workers", "light"]
