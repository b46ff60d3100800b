# CoreDNS, built by tests/cluster/toolchain.py.
FROM scratch
COPY coredns /coredns
ENTRYPOINT ["/coredns"]
