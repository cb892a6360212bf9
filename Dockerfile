# docker build .                                              the project, with torch for CPUs
# docker build --build-arg TORCH=cuda .                       with CUDA
# docker build --target serve --build-arg MODEL=line .        a server of models/line; without MODEL of all models
ARG PYTHON=3.13

FROM python:${PYTHON}-slim-bookworm AS packages
# a font with Chinese characters for the plots; versions are those of the Debian release
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends fonts-noto-cjk git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 user \
    && install --directory --owner=user /project
USER 1000
WORKDIR /project
# USER: DVC asks for the name, also of a user whom only `docker run --user` knows
ENV PATH=/project/.venv/bin:$PATH PIP_NO_CACHE_DIR=1 USER=user
COPY Makefile requirements.lock ./
ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN make .venv/packages TORCH=${TORCH} TORCH_INDEX=${TORCH_INDEX}

FROM packages AS serve
COPY requirements-serve.lock ./
RUN make .venv/serve-ready
COPY params.yaml ./
COPY pipelines pipelines
COPY src src
ARG MODEL
COPY models/${MODEL} models/${MODEL}
EXPOSE 7860
CMD ["python", "-m", "pipelines.serve", "--bundles", "models", "--address", "0.0.0.0", "--public"]

FROM packages AS project
COPY --chown=user . .
# the copy of requirements.lock can be younger than the packages that were installed from it
RUN touch .venv/packages && make setup
CMD ["dvc", "repro"]
