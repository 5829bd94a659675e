# One node of MemoryStreamer: the production lock and this package, on an image without a shell.
#
#   docker build -t memorystreamer .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges \
#     -v /etc/memorystreamer:/etc/memorystreamer:ro -v memorystreamer:/var/lib/memorystreamer \
#     -p 9093:9093 -p 9193:9193 memorystreamer
#
# Give both images by digest in production: --build-arg BUILD=...@sha256:... and RUNTIME likewise.
# Both stages must have the same Python (3.11 in Debian 12): wheels are unpacked for that one.
ARG BUILD=docker.io/library/python:3.11-slim-bookworm
ARG RUNTIME=gcr.io/distroless/python3-debian12:nonroot

FROM ${BUILD} AS build
WORKDIR /build
COPY deploy/locks/production.lock .
RUN python -m pip install --no-cache-dir --disable-pip-version-check --no-compile \
      --require-hashes --only-binary :all: --target /opt/memorystreamer -r production.lock \
 && rm -rf /opt/memorystreamer/bin
COPY appliance /opt/memorystreamer/appliance
COPY policies /opt/memorystreamer/appliance/_policies
COPY certs-tooling/certs_tooling /opt/memorystreamer/certs_tooling
RUN python -m compileall -q /opt/memorystreamer \
 && install -d -m 0700 -o 65532 -g 65532 /state

FROM ${RUNTIME}
COPY --from=build /opt/memorystreamer /opt/memorystreamer
COPY --from=build --chown=65532:65532 /state /var/lib/memorystreamer
ENV PYTHONPATH=/opt/memorystreamer PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /var/lib/memorystreamer
EXPOSE 9093 9193
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/python3", "-P", "-m", "appliance.cli.main"]
CMD ["node", "run", "--config", "/etc/memorystreamer/node.toml"]
