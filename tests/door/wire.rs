//! The way from a case's client to the door's listener: from inside the network of a command within the walls.
//!
//! Each case has a sandbox of its own, whose command does nothing. The client's sockets are made by a thread that has gone into
//! the command's network, which root alone may do; what they speak, and what serves them, is as on any loopback.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Mutex;

use network_proxy::Listeners;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use sandbox::{
    Command, Network, Output, Plan, Program, Running, Sandbox, SandboxPolicy, Stdin,
    WorkingDirectory,
};
use tokio::net::{TcpStream, UdpSocket};

/// The client's side of a door's listener.
pub(crate) struct Wire {
    at: SocketAddr,
    network: OwnedFd,
    /// Ends with the case.
    _command: Mutex<Running>,
}

impl Wire {
    /// Starts a command whose network has a door, and takes its sockets.
    pub(crate) fn open() -> Result<(Self, Listeners), String> {
        Self::start().map_err(|error| error.to_string())
    }

    fn start() -> Result<(Self, Listeners), Box<dyn std::error::Error>> {
        let policy = SandboxPolicy::read_only().network(Network::Door).build()?;
        let sleep = ["/usr/bin/sleep", "/bin/sleep"];
        let sleep = sleep
            .into_iter()
            .find(|path| std::path::Path::new(path).is_file());
        let program = Program::open(sleep.ok_or("there is no `sleep`")?)?;
        let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
        let command = Command::new(["sleep", "600"], program, WorkingDirectory::open("/")?)?
            .with_stdin(Stdin::Null)
            .with_output(Output::Only(nowhere.into()));
        let plan = Plan::confined(&policy, &command)?;
        let at = plan.doorway().ok_or("the plan has no door")?.proxy();
        let mut running = Sandbox::start(&plan, command)?;
        let sockets = running.take_door().ok_or("the command has no door")?;
        let wire = Self {
            at,
            network: running.as_fd().try_clone_to_owned()?,
            _command: Mutex::new(running),
        };
        let listeners = Listeners {
            proxy: sockets.proxy,
            relays: sockets.relays,
            names: sockets.names,
            names_by_stream: sockets.names_by_stream,
            transparent: sockets.taken,
        };
        Ok((wire, listeners))
    }

    /// Where the listener is, as the client sees it.
    pub(crate) const fn at(&self) -> SocketAddr {
        self.at
    }

    /// Connects to it.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let at = self.at;
        let stream = self
            .inside(move || std::net::TcpStream::connect(at))
            .await?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }

    /// A UDP socket on the client's side.
    pub(crate) async fn datagrams(&self, address: &str) -> io::Result<UdpSocket> {
        let address = address.to_owned();
        let socket = self
            .inside(move || std::net::UdpSocket::bind(address))
            .await?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }

    /// Does `work` on a thread in the command's network, which ends there.
    async fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let network = self.network.try_clone()?;
        let (done, result) = tokio::sync::oneshot::channel();
        let _thread = std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || {
                let moved =
                    move_into_thread_name_spaces(network.as_fd(), ThreadNameSpaceType::NETWORK);
                let result = moved.map_err(io::Error::from).and_then(|()| work());
                drop(done.send(result));
            })?;
        result.await.map_err(io::Error::other)?
    }
}
