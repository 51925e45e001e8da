# libdsrt in a container: `docker build -t dsrt .`, then
#   docker run --rm dsrt --version
#   docker run --rm -v "$PWD:/training" dsrt train config.json --output run
# The first stage builds Debian's packages of the library and of the command; the second installs them on a bare Debian: no compiler, no headers.
FROM debian:12-slim AS build
WORKDIR /src
COPY tests/deps.sh tests/deps.sh
RUN apt-get update && sh tests/deps.sh file && rm -rf /var/lib/apt/lists/*
COPY . .
RUN cmake --preset release -DDSRT_TESTS=ON \
    && cmake --build --preset release --target dsrt dsrt_command dsrt_command_files \
    && cd build/release && cpack -D CPACK_COMPONENTS_ALL="library;command" -B /packages

FROM debian:12-slim
COPY --from=build /packages/libdsrt0_*.deb /packages/dsrt_*.deb /packages/
RUN apt-get update && apt-get install -y --no-install-recommends /packages/*.deb && rm -rf /var/lib/apt/lists/* /packages && dsrt --version
WORKDIR /training
ENTRYPOINT ["dsrt"]
CMD ["--help"]
