#!/bin/sh
# kcat against the appliance: prints one line "CHECK name ok|failed reason" for each check.
topic="kcat-$$-$(date +%s)"
tls="-b $BOOTSTRAP -X security.protocol=ssl -X ssl.ca.location=$CA -X message.timeout.ms=10000"
admin="$tls -X ssl.certificate.location=$CERT_admin -X ssl.key.location=$KEY_admin"
nobody="$tls -X ssl.certificate.location=$CERT_nobody -X ssl.key.location=$KEY_nobody"

check() {
    name=$1
    shift
    if reason=$("$@" 2>&1); then
        echo "CHECK $name ok"
    else
        echo "CHECK $name failed $(echo "$reason" | tail -n 1)"
    fi
}

produce() { seq 20 | timeout 30 kcat $admin -P -t "$topic" -z "$1" -X enable.idempotence=true; }
consume() { test "$(timeout 40 kcat $admin -C -t "$topic" -o beginning -e -q | wc -l)" = 100; }
refused() { ! seq 1 | timeout 20 kcat $nobody -P -t "$topic"; }
login() {
    seq 5 | timeout 30 kcat -b "$LOGIN_BOOTSTRAP" -P -t "$topic" -X security.protocol=sasl_ssl \
        -X ssl.ca.location="$CA" -X sasl.mechanism="$1" -X sasl.username=admin \
        -X sasl.password="$PASSWORD" -X message.timeout.ms=10000
}

quota() {
    for _ in $(seq 50); do head -c 15000 /dev/urandom | base64 -w 0; echo; done |
        timeout 60 kcat $admin -P -t "$topic" -X client.id="$SLOW" -X batch.num.messages=1 \
            -X message.timeout.ms=60000 2>&1 | grep -i throttled
}

check "admin: cluster" kcat $admin -L
for codec in none gzip snappy lz4 zstd; do check "produce $codec" produce "$codec"; done
check "consume" consume
check "mutual TLS refused" refused
for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do check "$mechanism" login "$mechanism"; done
check "quota" quota
