//! The way to a Redis server: one shared connection that comes back by itself. Runs on the egress thread.

use crate::egress;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

/// How long the engine waits for the server when it starts.
const BOOT_PATIENCE: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the server may take to answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Time between attempts: 100 ms, doubling up to 5 s.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next: BACKOFF_MIN }
    }
}

impl Backoff {
    /// How long to wait after one more failure.
    pub fn step(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(BACKOFF_MAX);
        wait
    }
}

/// A shared connection. Commands fail at once while the server is away; it is asked again after a while.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Number of the connection, so that it is given up once.
    generation: u64,
    retry_at: Option<Instant>,
    backoff: Backoff,
}

impl Link {
    /// A link to a server, which is not asked yet. `Err` = the address makes no sense.
    pub fn open(url: &str) -> Result<Link, String> {
        let client = Client::open(url)
            .map_err(|error| format!("'{}' is no address of Redis: {error}", without_password(url)))?;
        Ok(Link { shared: Arc::new(Shared { client, state: Mutex::default() }) })
    }

    /// The same, and waits until the server answers. Blocks: for the start of the engine only.
    pub fn connect(url: &str) -> Result<Link, String> {
        let link = Link::open(url)?;
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        egress::spawn({
            let link = link.clone();
            async move {
                while link.connection().await.is_err() {
                    sleep(BACKOFF_MIN).await;
                }
                let _ = sender.send(());
            }
        });
        let patience = BOOT_PATIENCE;
        receiver.recv_timeout(patience).map(|()| link).map_err(|_| {
            format!(
                "Redis connection timed out after {}s. Please ensure Redis is running at: {}",
                patience.as_secs(),
                without_password(url)
            )
        })
    }

    /// The client, for connections of another kind.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Runs commands. `Err` = they failed, or the server is away.
    pub async fn run<T>(
        &self,
        commands: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, String> {
        let (connection, generation) = self.connection().await?;
        match commands(connection).await {
            Ok(value) => Ok(value),
            Err(error) => {
                let broken = error.is_io_error() || error.is_connection_dropped() || error.is_timeout();
                if broken || error.is_unrecoverable_error() {
                    let mut state = self.shared.state.lock().await;
                    if state.generation == generation {
                        state.connection = None;
                    }
                }
                Err(error.to_string())
            }
        }
    }

    /// Gives the connection up: something else has found the server gone.
    pub async fn reset(&self) {
        self.shared.state.lock().await.connection = None;
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, u64), String> {
        let mut state = self.shared.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((connection.clone(), state.generation));
        }
        if state.retry_at.is_some_and(|at| Instant::now() < at) {
            return Err("Redis is not reachable".to_owned());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let attempt = self.shared.client.get_multiplexed_async_connection_with_config(&config);
        match timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(Ok(connection)) => {
                state.generation += 1;
                state.connection = Some(connection.clone());
                state.retry_at = None;
                state.backoff = Backoff::default();
                Ok((connection, state.generation))
            }
            failed => {
                let wait = state.backoff.step();
                state.retry_at = Some(Instant::now() + wait);
                Err(match failed {
                    Ok(Err(error)) => format!("Redis is not reachable: {error}"),
                    _ => "Redis is not reachable: it does not answer".to_owned(),
                })
            }
        }
    }
}

/// An address that may be logged.
pub fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}***{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_five_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.step().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("redis://:secret@host:6379/1"), "redis://***@host:6379/1");
        assert_eq!(without_password("redis://host"), "redis://host");
    }
}
