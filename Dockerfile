# syntax=docker/dockerfile:1
# The whole toolchain makes the bundle; the image holds that, the migrations, Node, and PostgreSQL's client for backups.
FROM node:24.12.0-bookworm-slim AS build
WORKDIR /pawl
COPY package.json package-lock.json ./
# The embedded PostgreSQL and the Node binaries are for checkouts; the image brings its own Node.
RUN npm ci --omit=optional --no-audit --no-fund
COPY . .
# rolldown's own binary is an optional package of rolldown, and was left out above with the others.
RUN npm install --no-save --no-audit --no-fund "@rolldown/binding-linux-$(node -p 'process.arch')-gnu@$(node -p "require('rolldown/package.json').version")" \
 && node scripts/bundle.ts
# What refreshes read BigQuery and files with, what draws PDFs, keeps files in S3 and encrypts backups is loaded only when used, and lies beside the bundle.
RUN mkdir /libraries && cd /libraries && npm init --yes >/dev/null \
 && npm install --no-audit --no-fund $(node -p "const {devDependencies: d, optionalDependencies: o} = require('/pawl/package.json'); \
    ['@google-cloud/bigquery', '@duckdb/node-api', 'pdfkit', 'dejavu-fonts-ttf', '@aws-sdk/client-s3', 'age-encryption'].map(name => name + '@' + {...d, ...o}[name]).join(' ')")

# pg_dump and pg_restore for backups, of the server's major version (--build-arg PG_MAJOR=17 for another), with the libraries that distroless lacks.
ARG PG_MAJOR=18
FROM postgres:${PG_MAJOR}-bookworm AS client
ARG PG_MAJOR
RUN mkdir -p /client/usr/local/bin \
 && cd /usr/lib/postgresql/$PG_MAJOR/bin && cp -L pg_dump pg_dumpall pg_restore /client/usr/local/bin/ \
 && ldd /client/usr/local/bin/* | awk '$3 ~ /^\// && $1 !~ /^(libc|libm|ld-linux.*)\.so/ {print $3}' | sort -u | xargs -I{} cp -L --parents {} /client/

FROM gcr.io/distroless/nodejs24-debian12:nonroot
WORKDIR /pawl
COPY --from=build /pawl/dist ./
COPY --from=build /libraries/node_modules ./node_modules
COPY --from=client /client/ /
ENV NODE_ENV=production
# Run it with --read-only; refreshes from files want a writable /tmp (an emptyDir) for what they can't read in place.
USER nonroot
EXPOSE 9465
# A small young generation: batches leave little garbage, and 16 MB semi-spaces only sit there (87 instead of 92 MB when idle).
# No --enable-source-maps: reading the map costs 65 MB. It lies beside the bundle for whoever has a stack trace to read.
ENTRYPOINT ["/nodejs/bin/node", "--max-semi-space-size=1", "/pawl/pawl.mjs"]
CMD ["work"]
