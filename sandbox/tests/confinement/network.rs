//! What can be reached.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::PoisonError;

use sandbox::{Filter, Network};

use crate::harness::{HOST_SOCKETS, Lab, find};

/// Answers `REACHED` to whoever connects.
fn listener() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming().take(4).flatten() {
            (&connection).write_all(b"REACHED\n").ok();
        }
    });
    port
}

fn connect(port: u16) -> String {
    format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port} && head -n 1 <&3' 2>/dev/null; true")
}

#[test]
fn the_host_s_loopback_is_out_of_reach() {
    find("bash");
    let lab = Lab::new();
    let port = listener();
    let seen = lab.confined(&connect(port));
    assert_eq!(seen.output, "");
    assert_eq!(seen.run.confinement.network(), Network::Off);
}

#[test]
fn full_network_is_the_host_s() {
    let lab = Lab::new();
    let port = listener();
    let policy = lab.policy().network(Network::Full).build().unwrap();
    let seen = lab.under(&policy, &connect(port));
    assert_eq!(seen.output, "REACHED\n");
}

#[test]
fn a_server_on_the_inside_can_be_reached_from_the_inside() {
    find("perl");
    let lab = Lab::new();
    let script = r#"use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die $!;
        if (!fork) { my $c = $s->accept; print $c "hello\n"; exit }
        my $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $s->sockport) or die $!; print scalar <$c>;"#;
    let seen = lab.confined(&format!("perl -e '{script}'"));
    assert_eq!(seen.output, "hello\n");
}

#[test]
fn a_socket_of_the_host_in_a_readable_tree_cannot_be_reached() {
    let _alone = HOST_SOCKETS.write().unwrap_or_else(PoisonError::into_inner);
    find("perl");
    let lab = Lab::new();
    for path in [lab.base.join("host.sock"), lab.workspace.join("host.sock")] {
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming().take(1).flatten() {
                (&connection).write_all(b"REACHED\n").ok();
            }
        });
        let script = format!(
            r#"use IO::Socket::UNIX; my $c = IO::Socket::UNIX->new(Peer => "{}") or exit 3; print scalar <$c>;"#,
            path.display()
        );
        let seen = lab.confined(&format!("perl -e '{script}'"));
        assert_eq!(seen.output, "");
        assert_eq!(seen.code(), Some(3));
    }
}

#[test]
fn a_socket_of_the_host_that_was_named_from_its_own_folder_cannot_be_reached() {
    let _alone = HOST_SOCKETS.write().unwrap_or_else(PoisonError::into_inner);
    let perl = find("perl");
    let lab = Lab::new();
    // Bound by a name without a slash: the kernel lists that name alone.
    let script = r#"use IO::Socket::UNIX; my $l = IO::Socket::UNIX->new(Local => "rel.sock", Listen => 1) or die; chmod 0777, "rel.sock";
        $| = 1; print "READY\n"; my $c = $l->accept; print $c "REACHED\n"; close $c"#;
    let mut server = std::process::Command::new(perl)
        .args(["-e", script])
        .current_dir(&lab.workspace)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(server.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let script = r#"use IO::Socket::UNIX; my $c = IO::Socket::UNIX->new(Peer => "rel.sock") or exit 3; print scalar <$c>;"#;
    let seen = lab.confined(&format!("perl -e '{script}'"));
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!((seen.output.as_str(), seen.code()), ("", Some(3)));
}

#[test]
fn a_socket_of_the_host_that_cannot_be_located_turns_unix_sockets_off() {
    let _alone = HOST_SOCKETS.write().unwrap_or_else(PoisonError::into_inner);
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
    let lab = Lab::new();
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    // Bound through a magic link: the kernel lists that name, which leads nowhere later.
    let folder = std::fs::File::open(&lab.base).unwrap();
    let name = format!(
        "/proc/self/fd/{}/s",
        std::os::fd::AsRawFd::as_raw_fd(&folder)
    );
    bind(&socket, &SocketAddrUnix::new(name).unwrap()).unwrap();
    let seen = lab.confined("true");
    assert!(
        seen.run
            .confinement
            .seccomp()
            .contains(&Filter::UnixSockets)
    );
    assert!(
        seen.run
            .confinement
            .to_string()
            .contains("unix sockets: refused")
    );
}

#[test]
fn other_address_families_do_not_exist() {
    find("perl");
    let lab = Lab::new();
    // Packet, Bluetooth, vsock, algorithm, XDP; netlink of another protocol than routing.
    let script = r"use Socket; for my $f (17, 31, 40, 38, 44) { print qq(FAMILY $f\n) if socket(my $s, $f, 3, 0) }
        print qq(NETLINK\n) if socket(my $s, 16, 3, 12); print qq(SCTP\n) if socket(my $t, 2, 1, 132);";
    let seen = lab.confined(&format!("perl -e '{script}'"));
    assert_eq!((seen.output.as_str(), seen.code()), ("", Some(0)));
}
