//! Outgoing TCP connections: non-blocking, and from more than one loopback address when there are very many.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Connections made from one source address. The default range of ephemeral ports has 28,232.
pub const PORTS_PER_ADDRESS: usize = 20_000;

/// Starts connecting to `server`. `number` counts the run's connections and chooses the source address.
pub fn connect(server: SocketAddr, number: usize) -> io::Result<mio::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source_address(server, number) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(mio::net::TcpStream::from_std(socket.into()))
}

/// The address to connect from; `None` leaves it to the kernel.
fn source_address(server: SocketAddr, number: usize) -> Option<IpAddr> {
    let group = u8::try_from(number / PORTS_PER_ADDRESS).ok()?;
    match server.ip() {
        IpAddr::V4(address) if address.is_loopback() && group > 0 => {
            Some(Ipv4Addr::new(127, 0, 0, 1u8.checked_add(group)?).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_very_many_loopback_connections_use_further_addresses() {
        let loopback = "127.0.0.1:49134".parse().unwrap();
        assert_eq!(source_address(loopback, 0), None);
        assert_eq!(source_address(loopback, PORTS_PER_ADDRESS - 1), None);
        assert_eq!(source_address(loopback, PORTS_PER_ADDRESS), Some([127, 0, 0, 2].into()));
        assert_eq!(source_address(loopback, PORTS_PER_ADDRESS * 3), Some([127, 0, 0, 4].into()));
        assert_eq!(source_address("10.0.0.1:1".parse().unwrap(), PORTS_PER_ADDRESS), None);
    }
}
