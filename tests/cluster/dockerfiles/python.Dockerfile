# Stands for the Dockerfiles' base image, where no registry can be reached: Debian's own Python. Pods'
# sandboxes are made of it as well, and sleep.
FROM scratch
ADD root.tar /
RUN rm -f /usr/lib/python3.*/EXTERNALLY-MANAGED
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    UV_LINK_MODE=copy \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt
CMD ["sleep", "infinity"]
