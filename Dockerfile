# The engine, built and run on Debian.
#
# io_uring is the point of this engine, and Docker's default seccomp profile forbids it. Run with
#
#   docker run --security-opt seccomp=unconfined --ulimit memlock=-1 --ulimit nofile=65536 -p 49134:49134 IMAGE
#
# or, tighter, with packaging/seccomp.json, which allows io_uring_setup, io_uring_enter and io_uring_register besides
# what any server needs; packaging/compose.yaml does. memlock: each shard pins under 200 KiB. nofile: one descriptor
# per connection. Workers the engine is to start need their own languages: build an image on top of this one.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin iii

FROM debian:bookworm-slim
COPY --from=build /src/target/release/iii /usr/local/bin/iii
RUN useradd --system --create-home --home-dir /var/lib/iii iii
USER iii
WORKDIR /var/lib/iii
EXPOSE 49134 3111 3112
# Inside a container loopback is nobody: listen on all addresses and let Docker publish what should be reachable.
ENTRYPOINT ["iii"]
CMD ["--use-default-config", "--host", "0.0.0.0"]
