//! Listening sockets: exclusive, bound before anything else starts.

use super::StartError;
use crate::settings::ListenerSettings;
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 4096;

/// The sockets of one listener.
#[derive(Default)]
pub struct Bound {
    /// Addresses really bound; a port 0 has become a number.
    pub addresses: Vec<SocketAddr>,
    /// One socket per address.
    pub sockets: Vec<OwnedFd>,
}

/// Binds every listener, or says which address cannot be had and who has it.
pub fn bind(listeners: &[ListenerSettings]) -> Result<Vec<Bound>, StartError> {
    listeners.iter().map(bind_one).collect()
}

fn bind_one(listener: &ListenerSettings) -> Result<Bound, StartError> {
    let mut bound = Bound::default();
    for (index, address) in listener.addresses.iter().enumerate() {
        let mut address = *address;
        if let Some(first) = bound.addresses.first()
            && address.port() == 0
        {
            address.set_port(first.port());
        }
        match listen(address) {
            Ok((address, socket)) => {
                bound.addresses.push(address);
                bound.sockets.push(socket);
            }
            Err(error) if index > 0 && listener.first_address_suffices => {
                tracing::debug!("not listening on {address}: {error}");
            }
            Err(error) => return Err(StartError(explain(&listener.name, address, &error))),
        }
    }
    Ok(bound)
}

fn listen(address: SocketAddr) -> io::Result<(SocketAddr, OwnedFd)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restart bind while old connections are in TIME_WAIT. Two listeners are still refused, which
    // SO_REUSEPORT would not do.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((address, socket.into()))
}

fn explain(name: &str, address: SocketAddr, error: &io::Error) -> String {
    let mut text = format!("failed to start worker '{name}': ");
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let _ = write!(text, "address {address} is already in use");
            if let Some(holder) = holder_of(address) {
                let _ = write!(text, " by {holder}");
            }
            text.push_str("; stop it or choose another port with --port");
        }
        io::ErrorKind::PermissionDenied => {
            let _ = write!(text, "not allowed to listen on {address}; ports below 1024 need CAP_NET_BIND_SERVICE");
        }
        io::ErrorKind::AddrNotAvailable => {
            let _ = write!(text, "{} is not an address of this machine", address.ip());
        }
        _ => {
            let _ = write!(text, "cannot listen on {address}: {error}");
        }
    }
    text
}

/// The process that listens on a port, as far as the system shows it: socket inode from the kernel's table, then
/// the process with that descriptor.
fn holder_of(address: SocketAddr) -> Option<String> {
    let port = format!(":{:04X}", address.port());
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = std::fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Columns: number, local address, remote address, state (0A = listening), ..., inode.
            (fields.get(1)?.ends_with(&port) && *fields.get(3)? == "0A")
                .then(|| fields.get(9).map(|s| s.to_string()))?
        })
    })?;
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |entry: std::fs::DirEntry| {
            std::fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy() == wanted)
        };
        if descriptors.flatten().any(holds) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(addresses: &[&str]) -> ListenerSettings {
        ListenerSettings {
            name: "iii-worker-manager".into(),
            addresses: addresses.iter().filter_map(|address| address.parse().ok()).collect(),
            first_address_suffices: true,
            handshake_timeout_ms: 10_000,
            allowed_origins: Vec::new(),
            ..ListenerSettings::default()
        }
    }

    // T26, CFG-53
    #[test]
    fn a_taken_port_is_refused_and_its_holder_named() {
        let first = bind(&[listener(&["127.0.0.1:0"])]).unwrap_or_default();
        let taken = first[0].addresses[0].to_string();
        let error = bind(&[listener(&[&taken])]).err().map(|error| error.0).unwrap_or_default();
        assert!(error.contains(&format!("address {taken} is already in use by ")), "{error}");
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
    }

    // CFG-50
    #[test]
    fn the_twin_address_takes_the_same_port_or_is_done_without() {
        let bound = bind(&[listener(&["127.0.0.1:0", "[::1]:0"])]).unwrap_or_default();
        let ports: Vec<u16> = bound[0].addresses.iter().map(SocketAddr::port).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0), "{ports:?}");
    }
}
