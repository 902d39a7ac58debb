//! The door's sockets: what comes to them, and that nothing goes past them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};

use sandbox::{DoorSockets, Doorway, Network, Plan, PlanError, Sandbox};

use crate::harness::{Lab, Seen, captured, find, finish};

/// Runs `line` in a network with a door that `serve` serves.
fn behind_the_door(lab: &Lab, line: &str, serve: impl FnOnce(DoorSockets)) -> Seen {
    let policy = lab.policy().network(Network::Door).build().unwrap();
    let (command, output) = captured(lab.command(line));
    let plan = Plan::confined(&policy, &command).unwrap();
    let mut running = Sandbox::start(&plan, command).unwrap();
    let door = running.take_door().expect("a door");
    assert!(running.take_door().is_none());
    serve(door);
    finish(running, output)
}

/// Answers each connection with the address that was meant.
fn tell_what_was_meant(listener: TcpListener) {
    std::thread::spawn(move || {
        for mut connection in listener.incoming().take(8).flatten() {
            let meant = connection.local_addr().unwrap();
            connection
                .write_all(format!("MEANT {meant}\n").as_bytes())
                .ok();
        }
    });
}

/// Answers each datagram with itself.
fn echo(socket: UdpSocket) {
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        for _ in 0..8 {
            if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                socket.send_to(&bytes[..length], from).ok();
            }
        }
    });
}

fn serve_all(door: DoorSockets) {
    door.proxy
        .into_iter()
        .chain(door.taken)
        .chain(door.names_by_stream)
        .for_each(tell_what_was_meant);
    door.names.into_iter().for_each(echo);
}

fn tcp(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap();
    format!(
        r#"perl -MIO::Socket::IP -e 'my $c = IO::Socket::IP->new(PeerHost => "{host}", PeerPort => {port}, Type => 1) or do {{ print "NOT {address}: $!\n"; exit }}; print scalar <$c>;'; "#
    )
}

fn udp(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap();
    format!(
        r#"perl -MIO::Socket::IP -e 'my $c = IO::Socket::IP->new(PeerHost => "{host}", PeerPort => {port}, Type => 2) or die; alarm 5; $c->send("ping {address}\n"); $c->recv(my $b, 64) // do {{ print "NOT {address}: $!\n"; exit }}; print $b;'; "#
    )
}

#[test]
fn connections_to_any_address_come_to_the_door_by_the_address_that_was_meant() {
    find("perl");
    let lab = Lab::new();
    let line = [
        tcp("127.0.0.1:3128"),
        tcp("198.18.0.7:443"),
        tcp("8.8.8.8:53"),
        tcp("10.0.0.1:22"),
        udp("127.0.0.1:53"),
        udp("8.8.8.8:53"),
    ];
    let seen = behind_the_door(&lab, &line.concat(), serve_all);
    assert_eq!(
        seen.output,
        "MEANT 127.0.0.1:3128\nMEANT [::ffff:198.18.0.7]:443\nMEANT [::ffff:8.8.8.8]:53\n\
         MEANT [::ffff:10.0.0.1]:22\nping 127.0.0.1:53\nping 8.8.8.8:53\n"
    );
    assert_eq!(seen.run.confinement.network(), Network::Door);
    assert_eq!(seen.run.denials, Some(Vec::new()));
}

#[test]
fn addresses_of_ipv6_come_to_the_door_too() {
    find("perl");
    if !std::path::Path::new("/proc/net/if_inet6").exists() {
        // This kernel has none: then no such address leads anywhere, inside or outside.
        return;
    }
    let lab = Lab::new();
    let seen = behind_the_door(&lab, &tcp("2001:db8::7:443"), serve_all);
    assert_eq!(seen.output, "MEANT [2001:db8::7]:443\n");
}

#[test]
fn names_are_asked_of_the_door() {
    let lab = Lab::new();
    let seen = behind_the_door(
        &lab,
        "cat /etc/resolv.conf; echo x >> /etc/resolv.conf; grep -c localhost /etc/hosts; grep -vc localhost /etc/hosts",
        drop,
    );
    let lines: Vec<_> = seen.output.lines().collect();
    assert_eq!(lines.len(), 4, "{}", seen.output);
    assert_eq!(
        (lines[0], lines[2], lines[3]),
        ("nameserver 127.0.0.1", "2", "0")
    );
    assert!(lines[1].contains("cannot create"), "{}", lines[1]);
}

#[test]
fn other_ports_lead_to_the_door_or_nowhere_and_the_host_s_loopback_is_not_there() {
    find("perl");
    let lab = Lab::new();
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let port = host.local_addr().unwrap().port();
    let line = [
        tcp(&format!("127.0.0.1:{port}")),
        tcp("192.0.2.1:8080"),
        udp("192.0.2.1:443"),
    ];
    let seen = behind_the_door(&lab, &line.concat(), serve_all);
    let refused = |address: &str| format!("NOT {address}: Connection refused\n");
    assert!(host.accept().is_err());
    // A port that the door does not take is the walls' refusal, and told; one that it takes is neither.
    let told = serde_json::to_value(&seen.run.denials).unwrap().to_string();
    let other = if told.contains("192.0.2.1:8080") {
        refused("192.0.2.1:8080")
    } else {
        "MEANT [::ffff:192.0.2.1]:8080\n".to_owned()
    };
    let own = refused(&format!("127.0.0.1:{port}"));
    let expected = [own, other, refused("192.0.2.1:443")].concat();
    assert_eq!(seen.output, expected, "{told}");
}

#[test]
fn the_command_holds_no_power_over_its_network_and_no_socket_of_the_door() {
    find("perl");
    let lab = Lab::new();
    let script = r#"use Socket;
        print "RAW\n" if socket(my $r, 2, 3, 1);
        print "PACKET\n" if socket(my $p, 17, 3, 768);
        socket(my $n, 16, 3, 0) or print "netlink: $!\n";
        # RTM_DELROUTE of the route, and RTM_NEWLINK that takes the loopback down.
        send($n, pack("LSSLL CCCCCCCCL SSL", 36, 25, 5, 1, 0, 2, 0, 0, 0, 255, 4, 254, 2, 0, 8, 4, 1), 0);
        recv($n, my $a, 4096, 0); print "route: ", -unpack("l", substr($a, 16, 4)), "\n";
        send($n, pack("LSSLL CCSlLL", 32, 16, 5, 2, 0, 0, 0, 0, 1, 0, 1), 0);
        recv($n, $a, 4096, 0); print "link: ", -unpack("l", substr($a, 16, 4)), "\n";
        socket(my $s, 2, 1, 6); print "BOUND\n" if bind($s, sockaddr_in(81, INADDR_ANY));
        socket(my $t, 2, 1, 6); setsockopt($t, 1, 2, 1); setsockopt($t, 1, 15, 1);
        print "TAKEN\n" if bind($t, sockaddr_in(3128, INADDR_LOOPBACK)) && listen($t, 1);"#;
    let line = format!("perl -e '{script}'; ls -l /proc/self/fd | grep -c socket");
    let seen = behind_the_door(&lab, &line, drop_nothing);
    assert_eq!(seen.output, "route: 1\nlink: 1\n0\n");
}

/// Holds the sockets until the process ends.
fn drop_nothing(door: DoorSockets) {
    std::mem::forget(door);
}

#[test]
fn without_anybody_at_the_door_everything_is_refused() {
    find("perl");
    let lab = Lab::new();
    // The sockets close a moment after the command has started.
    let line = format!(
        "sleep 0.3; {}{}",
        tcp("198.18.0.1:443"),
        tcp("127.0.0.1:3128")
    );
    let seen = behind_the_door(&lab, &line, drop);
    assert_eq!(
        seen.output.matches("Connection refused").count(),
        2,
        "{}",
        seen.output
    );
}

#[test]
fn the_proxy_listens_where_it_was_asked_to() {
    find("perl");
    let lab = Lab::new();
    let policy = lab.policy().network(Network::Door).build().unwrap();
    let (command, output) =
        captured(lab.command(&(tcp("127.0.0.1:4000") + &tcp("127.0.0.1:3128"))));
    let plan = Plan::confined(&policy, &command)
        .unwrap()
        .with_doorway(Doorway::on([4000, 0]));
    let mut running = Sandbox::start(&plan, command).unwrap();
    serve_all(running.take_door().unwrap());
    let seen = finish(running, output);
    assert_eq!(seen.output, "MEANT 127.0.0.1:4000\nMEANT 127.0.0.1:3128\n");
}

#[test]
fn a_server_of_the_command_s_own_is_its_own() {
    find("perl");
    let lab = Lab::new();
    let script = r#"use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 8000) or die $!;
        if (!fork) { my $c = $s->accept; print $c "hello\n"; exit }
        my $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => 8000) or die $!; print scalar <$c>;"#;
    let mut nothing = Vec::new();
    let seen = behind_the_door(&lab, &format!("perl -e '{script}'"), |door| {
        for listener in door.taken {
            listener.set_nonblocking(true).unwrap();
            if let Ok((mut connection, _)) = listener.accept() {
                connection.read_to_end(&mut nothing).ok();
            }
        }
    });
    assert_eq!(seen.output, "hello\n");
    assert!(nothing.is_empty());
}

#[test]
fn a_plan_without_namespaces_has_no_door() {
    let lab = Lab::new();
    let policy = lab.policy().network(Network::Door).build().unwrap();
    let reduced = Plan::reduced(&policy, &lab.command("true"));
    assert!(matches!(reduced, Err(PlanError::NeedsNamespaces(_))));
}
