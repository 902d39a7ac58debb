#!/bin/sh
# Lets the container connect to the addresses that the allowed names have now, and to nothing else.
#
#   init-firewall up        puts the rules up; fails, with everything shut, where that does not come off
#   init-firewall refresh   asks for the names again before their answers expire, for ever
#   init-firewall once      asks once
#
# Names are asked of the container's own resolvers and of nobody else. An address counts for as long as its answer does
# (its TTL, between LEAST and MOST seconds) and is gone from the rules afterwards. Answers that point into private,
# loopback, link-local or metadata ranges are thrown away, so that a name's owner cannot turn it against the host's own
# network. What this cannot do: tell two names that share one address apart, or keep data from leaving through a name that
# is allowed, the resolver included.
set -eu

ALLOWED=${ALLOWED_HOSTS:-/etc/auto-review/allowed-hosts}
RESOLV=${RESOLV_CONF:-/etc/resolv.conf}
LEAST=30
MOST=3600
# An answer outlives its TTL by this much, so that connections do not fail between two rounds.
GRACE=30

fail() {
    echo "init-firewall: $*" >&2
    exit 1
}

resolvers() {
    sed -n 's/^[[:space:]]*nameserver[[:space:]]\{1,\}\([0-9a-fA-F:.]*\).*/\1/p' "$RESOLV"
}

up() {
    [ -r "$ALLOWED" ] || fail "cannot read $ALLOWED"
    # Shut first: whatever fails below, nothing is open.
    nft -f - <<'RULES' || fail "the kernel does not take the rules (is NET_ADMIN granted?)"
table inet auto_review
delete table inet auto_review
table inet auto_review {
    set web4 { type ipv4_addr; flags timeout; }
    set web6 { type ipv6_addr; flags timeout; }
    set ssh4 { type ipv4_addr; flags timeout; }
    set ssh6 { type ipv6_addr; flags timeout; }
    set dns4 { type ipv4_addr; }
    set dns6 { type ipv6_addr; }
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established,related accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
    }
    chain output {
        type filter hook output priority 0; policy drop;
        oif lo accept
        ct state established,related accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept
        ip daddr @dns4 udp dport 53 accept
        ip daddr @dns4 tcp dport 53 accept
        ip6 daddr @dns6 udp dport 53 accept
        ip6 daddr @dns6 tcp dport 53 accept
        ip daddr @web4 tcp dport 443 accept
        ip6 daddr @web6 tcp dport 443 accept
        ip daddr @ssh4 tcp dport 22 accept
        ip6 daddr @ssh6 tcp dport 22 accept
        reject with icmpx admin-prohibited
    }
}
RULES
    found=0
    for address in $(resolvers); do
        case $address in
            *:*) nft add element inet auto_review dns6 "{ $address }" ;;
            *) nft add element inet auto_review dns4 "{ $address }" ;;
        esac
        found=1
    done
    [ "$found" = 1 ] || fail "no resolver in $RESOLV"
    once >/dev/null
}

# Whether an address may be anybody's on the internet: the rest is somebody's own network.
public() {
    case $1 in
        0.*|10.*|127.*|169.254.*|192.168.*|192.0.0.*|22[4-9].*|2[3-5][0-9].*) return 1 ;;
        172.1[6-9].*|172.2[0-9].*|172.3[01].*) return 1 ;;
        100.6[4-9].*|100.[7-9][0-9].*|100.1[01][0-9].*|100.12[0-7].*|198.1[89].*) return 1 ;;
        ::*|[fF][cCdDeEfF]*:*|64:[fF][fF]9[bB]:*|2002:*) return 1 ;;
        *) return 0 ;;
    esac
}

# Lines "TTL ADDRESS" for one kind of record.
ask() {
    dig +noall +answer +time=3 +tries=2 "$1" "$2" 2>/dev/null \
        | awk -v kind="$2" '$3 == "IN" && $4 == kind && $2 ~ /^[0-9]+$/ && $5 ~ /^[0-9a-fA-F:.]+$/ { print $2, $5 }'
}

# Asks for every name; prints after how many seconds to ask again.
once() {
    next=$MOST
    while read -r name port _; do
        case $name in ''|'#'*) continue ;; esac
        case $name in *[!A-Za-z0-9.-]*|-*) echo "init-firewall: \`$name\` is no name" >&2; continue ;; esac
        for kind in A AAAA; do
            [ "$kind" = A ] && family=4 || family=6
            answers=$(ask "$name" "$kind" || :)
            [ -n "$answers" ] || continue
            while read -r ttl address; do
                public "$address" || { echo "init-firewall: $name is $address, which is not public" >&2; continue; }
                [ "$ttl" -ge "$LEAST" ] || ttl=$LEAST
                [ "$ttl" -le "$MOST" ] || ttl=$MOST
                [ "$ttl" -ge "$next" ] || next=$ttl
                allow "web$family" "$address" "$ttl"
                [ "${port:-}" != 22 ] || allow "ssh$family" "$address" "$ttl"
            done <<ANSWERS
$answers
ANSWERS
        done
    done <"$ALLOWED"
    # A round in which nothing was answered is tried again soon.
    [ "$next" != "$MOST" ] || next=$LEAST
    echo "$next"
}

# Adds an address for as long as its answer counts; the time of one that is there begins anew.
allow() {
    nft -f - <<RULES || echo "init-firewall: cannot allow $2" >&2
add element inet auto_review $1 { $2 }
delete element inet auto_review $1 { $2 }
add element inet auto_review $1 { $2 timeout $(($3 + GRACE))s }
RULES
}

case ${1:-} in
    up) up ;;
    once) once ;;
    refresh) while :; do sleep "$(once)"; done ;;
    *) fail "usage: init-firewall up|once|refresh" ;;
esac
