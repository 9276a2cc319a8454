# Built from the top of the repository: docker build -f docker/agent.Dockerfile -t audiovault-agent .
#
# The build does not see the git directory. These two arguments give the program its commit and its time:
# --build-arg AUDIOVAULT_COMMIT="$(git rev-parse --short=12 HEAD)"
# --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)"

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# One layer has all sources, so that this file does not depend on the manifests. For frequent builds use cargo, which
# keeps compiled dependencies. The image has gcc, and aws-lc and SQLite need no other compiler.
COPY . .
ARG AUDIOVAULT_COMMIT
ARG SOURCE_DATE_EPOCH
RUN cargo build --profile dist --locked --package audiovault-agent

FROM debian:bookworm-slim
RUN groupadd --system --gid 10001 audiovault \
 && useradd --system --uid 10001 --gid audiovault --home-dir /var/lib/audiovault --shell /usr/sbin/nologin audiovault \
 && install --directory --owner=audiovault --group=audiovault --mode=0700 /var/lib/audiovault
COPY --from=build /src/target/dist/audiovault-agent /usr/local/bin/

# Often only the PBX's user can read the recordings. Then run the container with that user and group, and with a state
# file that they can write.
USER 10001:10001
WORKDIR /var/lib/audiovault
ENV AUDIOVAULT_AGENT_STATE_FILE=/var/lib/audiovault/agent.state
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["audiovault-agent", "health"]
ENTRYPOINT ["audiovault-agent"]
CMD ["tunnel"]
