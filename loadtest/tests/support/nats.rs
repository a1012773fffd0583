//! A stand-in for a NATS server: enough of the text protocol for request/reply, one thread per connection.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Where each subject's messages go: a socket and a subscription id.
type Subscriptions = Arc<Mutex<HashMap<String, (TcpStream, String)>>>;

/// Starts a stand-in on a free port. It serves until the test process ends.
pub fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let subscriptions = Subscriptions::default();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let subscriptions = Arc::clone(&subscriptions);
            std::thread::spawn(move || serve(stream, &subscriptions));
        }
    });
    address
}

/// Ends with an error when the client leaves.
fn serve(mut stream: TcpStream, subscriptions: &Subscriptions) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"INFO {\"server_id\":\"stand-in\"}\r\nPING\r\n")?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["CONNECT", ..] | ["PONG"] => {}
            ["PING"] => stream.write_all(b"PONG\r\n")?,
            ["SUB", subject, .., id] => {
                let route = (stream.try_clone()?, id.to_owned());
                subscriptions.lock().unwrap().insert(subject.to_owned(), route);
            }
            ["PUB", subject, ref reply @ .., length] => {
                let mut payload = vec![0; length.parse::<usize>().unwrap() + 2];
                reader.read_exact(&mut payload)?;
                publish(subscriptions, subject, &reply.join(" "), &payload)?;
            }
            _ => panic!("the tool sent {line:?}"),
        }
    }
}

fn publish(subscriptions: &Subscriptions, subject: &str, reply: &str, payload: &[u8]) -> std::io::Result<()> {
    let wildcard = subject.rsplit_once('.').map_or(String::new(), |(front, _)| format!("{front}.*"));
    let mut subscriptions = subscriptions.lock().unwrap();
    let key = if subscriptions.contains_key(subject) { subject } else { wildcard.as_str() };
    let (stream, id) = subscriptions.get_mut(key).expect("somebody has subscribed");
    let reply = if reply.is_empty() { String::new() } else { format!("{reply} ") };
    let mut message = format!("MSG {subject} {id} {reply}{}\r\n", payload.len() - 2).into_bytes();
    message.extend_from_slice(payload);
    stream.write_all(&message)
}
