//! The supervisor: the entries that are processes, each kept by a task of its own.
//!
//! A reload uses [`Supervisor::put`] and [`Supervisor::remove`]; people use `start`, `stop` and `restart` through
//! `worker::*`. Orders to one entry are obeyed one after the other; entries never wait for each other. Stopping the
//! engine is [`Supervisor::stop_all`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Requests that may wait for the supervisor, and orders that may wait for an entry.
const REQUESTS_MAX: usize = 256;

/// What an entry is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It will start: it waits for what it depends on, or for its turn.
    Queued,
    /// Its dependencies are being installed.
    Installing,
    /// Its process runs.
    Running,
    /// Its process ended by itself and will be started again.
    Waiting,
    /// It cannot be started, or ends again and again.
    Failed,
    /// Its process ended well by itself.
    Finished,
    /// Somebody has stopped it.
    Stopped,
}

impl Phase {
    /// It has ended and nothing will start it again but a change or somebody.
    pub fn is_dead(self) -> bool {
        matches!(self, Phase::Failed | Phase::Finished)
    }

    /// The word for it in listings.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Installing => "installing",
            Phase::Running => "running",
            Phase::Waiting => "restarting",
            Phase::Failed => "failed",
            Phase::Finished => "finished",
            Phase::Stopped => "stopped",
        }
    }
}

/// An entry as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// Process id of its shell, which is its session too; of the install command while installing.
    pub pid: Option<i32>,
    /// Since when.
    pub since: SystemTime,
    /// How often it was started, so far.
    pub starts: u32,
    /// Why it failed or waits.
    pub reason: Option<String>,
}

/// What a running entry is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// End, within this time if it is given.
    Stop(Option<Duration>),
    /// End the process and start it again.
    Restart,
}

/// What the task of an entry has of its keeper.
#[derive(Debug)]
pub struct Control {
    /// Orders. Closed = stop.
    pub orders: mpsc::Receiver<Order>,
    status: Arc<watch::Sender<Status>>,
}

impl Control {
    /// Says what the entry is doing.
    pub fn phase(&self, phase: Phase, pid: Option<i32>, reason: Option<String>) {
        self.status.send_modify(|status| {
            let starts = status.starts + u32::from(phase == Phase::Running);
            *status = Status { phase, pid, since: SystemTime::now(), starts, reason };
        });
    }

    /// The next order.
    pub async fn order(&mut self) -> Order {
        self.orders.recv().await.unwrap_or(Order::Stop(None))
    }
}

/// The task of an entry, once per start.
pub type Task = Arc<dyn Fn(Control) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// An entry to supervise.
#[derive(Clone)]
pub struct Entry {
    /// Unique name.
    pub name: String,
    /// What it is made of; an entry put again with the same one is left alone.
    pub fingerprint: String,
    /// Runs it.
    pub task: Task,
    /// Somebody stopped it and wants that to last: it is known, but not started.
    pub held: bool,
    /// A reload starts it again if it has ended.
    pub revives: bool,
}

/// Reaches the supervisor from anywhere.
#[derive(Clone, Debug)]
pub struct Supervisor {
    requests: mpsc::Sender<Request>,
}

/// What came of putting an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is new and starts.
    Added,
    /// It was there with another fingerprint: it is stopped and started.
    Changed,
    /// It was there, but had ended: it starts again (CFG-82).
    Revived,
    /// It is there and runs, or was stopped on purpose.
    Unchanged,
}

enum Request {
    Put(Entry, oneshot::Sender<Put>),
    Remove(String, oneshot::Sender<bool>),
    Tell(String, Told, oneshot::Sender<bool>),
    List(oneshot::Sender<Vec<(String, Status)>>),
    StopAll(Duration, oneshot::Sender<()>),
}

/// What a keeper is told; it answers when that is done.
#[derive(Clone)]
enum Told {
    Start,
    Stop(Option<Duration>),
    Restart,
    Replace(Entry),
    End,
}

impl Supervisor {
    /// A supervisor without entries.
    pub fn start() -> Supervisor {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        super::spawn(run(receiver));
        Supervisor { requests }
    }

    /// Adds an entry or replaces the one of the same name. Does not wait for anything to stop or start.
    pub async fn put(&self, entry: Entry) -> Put {
        self.ask(|reply| Request::Put(entry, reply)).await.unwrap_or(Put::Unchanged)
    }

    /// Stops an entry and forgets it. `false` = there is none.
    pub async fn remove(&self, name: &str) -> bool {
        let name = name.to_owned();
        self.ask(|reply| Request::Remove(name, reply)).await.unwrap_or(false)
    }

    /// Starts an entry that does not run. Returns at once; `false` = there is none.
    pub async fn start_entry(&self, name: &str) -> bool {
        self.tell(name, Told::Start).await
    }

    /// Stops an entry until it is started again; returns when it has stopped. `false` = there is none.
    pub async fn stop_entry(&self, name: &str) -> bool {
        self.tell(name, Told::Stop(None)).await
    }

    /// Stops an entry and starts it again. `false` = there is none.
    pub async fn restart(&self, name: &str) -> bool {
        self.tell(name, Told::Restart).await
    }

    /// All entries by name.
    pub async fn list(&self) -> Vec<(String, Status)> {
        self.ask(Request::List).await.unwrap_or_default()
    }

    /// One entry.
    pub async fn status(&self, name: &str) -> Option<Status> {
        self.list().await.into_iter().find(|(other, _)| other == name).map(|(_, status)| status)
    }

    /// Stops everything at the same time; what has not ended after `grace` is killed.
    pub async fn stop_all(&self, grace: Duration) {
        let _ = self.ask(|reply| Request::StopAll(grace, reply)).await;
    }

    async fn tell(&self, name: &str, told: Told) -> bool {
        let name = name.to_owned();
        self.ask(|reply| Request::Tell(name, told, reply)).await.unwrap_or(false)
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// One entry with its keeper.
struct Kept {
    fingerprint: String,
    revives: bool,
    status: watch::Receiver<Status>,
    orders: mpsc::Sender<(Told, oneshot::Sender<()>)>,
}

async fn run(mut requests: mpsc::Receiver<Request>) {
    let mut kept: BTreeMap<String, Kept> = BTreeMap::new();
    let mut closed = false;
    while let Some(request) = requests.recv().await {
        match request {
            Request::Put(entry, reply) => {
                let put = if closed { Put::Unchanged } else { put(&mut kept, entry) };
                let _ = reply.send(put);
            }
            Request::Remove(name, reply) => match kept.remove(&name) {
                Some(entry) => answer_when_done(&entry, Told::End, move || _ = reply.send(true)),
                None => _ = reply.send(false),
            },
            Request::Tell(name, told, reply) => match kept.get(&name).filter(|_| !closed) {
                Some(entry) => answer_when_done(entry, told, move || _ = reply.send(true)),
                None => _ = reply.send(false),
            },
            Request::List(reply) => {
                let list = kept.iter().map(|(name, entry)| (name.clone(), entry.status.borrow().clone()));
                let _ = reply.send(list.collect());
            }
            Request::StopAll(grace, reply) => {
                closed = true;
                let waiting: Vec<_> =
                    kept.values().map(|entry| tell_keeper(&entry.orders, Told::Stop(Some(grace)))).collect();
                super::spawn(async move {
                    for done in waiting {
                        let _ = done.await;
                    }
                    let _ = reply.send(());
                });
            }
        }
    }
}

fn put(kept: &mut BTreeMap<String, Kept>, entry: Entry) -> Put {
    let Some(known) = kept.get_mut(&entry.name) else {
        kept.insert(entry.name.clone(), keep(entry));
        return Put::Added;
    };
    let phase = known.status.borrow().phase;
    if known.fingerprint != entry.fingerprint {
        known.fingerprint.clone_from(&entry.fingerprint);
        drop(tell_keeper(&known.orders, Told::Replace(entry)));
        return Put::Changed;
    }
    if known.revives && phase.is_dead() {
        drop(tell_keeper(&known.orders, Told::Start));
        return Put::Revived;
    }
    Put::Unchanged
}

fn answer_when_done(entry: &Kept, told: Told, answer: impl FnOnce() + Send + 'static) {
    let done = tell_keeper(&entry.orders, told);
    super::spawn(async move {
        let _ = done.await;
        answer();
    });
}

fn tell_keeper(orders: &mpsc::Sender<(Told, oneshot::Sender<()>)>, told: Told) -> JoinHandle<()> {
    let (done, is_done) = oneshot::channel();
    let orders = orders.clone();
    super::spawn(async move {
        if orders.send((told, done)).await.is_ok() {
            let _ = is_done.await;
        }
    })
}

fn keep(entry: Entry) -> Kept {
    let phase = if entry.held { Phase::Stopped } else { Phase::Queued };
    let status = Status { phase, pid: None, since: SystemTime::now(), starts: 0, reason: None };
    let (sender, receiver) = watch::channel(status);
    let (orders, told) = mpsc::channel(REQUESTS_MAX);
    let (fingerprint, revives) = (entry.fingerprint.clone(), entry.revives);
    super::spawn(Keeper { entry, status: Arc::new(sender), running: None }.run(told));
    Kept { fingerprint, revives, status: receiver, orders }
}

/// Keeps one entry: obeys what it is told, in order.
struct Keeper {
    entry: Entry,
    status: Arc<watch::Sender<Status>>,
    running: Option<(JoinHandle<()>, mpsc::Sender<Order>)>,
}

// === impl Keeper ===

impl Keeper {
    async fn run(mut self, mut told: mpsc::Receiver<(Told, oneshot::Sender<()>)>) {
        if !self.entry.held {
            self.start();
        }
        while let Some((told, done)) = told.recv().await {
            match told {
                Told::Start if self.is_running() => {}
                Told::Start => self.start(),
                Told::Stop(grace) => {
                    self.stop(grace).await;
                    self.status.send_modify(|status| (status.phase, status.pid) = (Phase::Stopped, None));
                }
                Told::Restart => {
                    self.stop(None).await;
                    self.start();
                }
                Told::Replace(entry) => {
                    self.stop(None).await;
                    self.entry = entry;
                    self.start();
                }
                Told::End => {
                    self.stop(None).await;
                    let _ = done.send(());
                    return;
                }
            }
            let _ = done.send(());
        }
        self.stop(None).await;
    }

    fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|(task, _)| !task.is_finished())
    }

    fn start(&mut self) {
        let (sender, orders) = mpsc::channel(16);
        let control = Control { orders, status: self.status.clone() };
        control.phase(Phase::Queued, None, None);
        let task = super::spawn((self.entry.task)(control));
        self.running = Some((task, sender));
    }

    async fn stop(&mut self, grace: Option<Duration>) {
        if let Some((task, orders)) = self.running.take() {
            let _ = orders.send(Order::Stop(grace)).await;
            let _ = task.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, fingerprint: &str) -> Entry {
        let task: Task = Arc::new(|mut control: Control| {
            Box::pin(async move {
                control.phase(Phase::Running, Some(1), None);
                while control.order().await == Order::Restart {}
            })
        });
        Entry { name: name.to_owned(), fingerprint: fingerprint.to_owned(), task, held: false, revives: true }
    }

    async fn phase(supervisor: &Supervisor, name: &str, wanted: Phase) -> Status {
        loop {
            match supervisor.status(name).await {
                Some(status) if status.phase == wanted => return status,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    // CFG-82, MW-34, MW-35
    #[test]
    fn entries_are_put_stopped_and_started() {
        super::super::wait(async {
            let supervisor = Supervisor::start();
            assert_eq!(supervisor.put(entry("a", "1")).await, Put::Added);
            phase(&supervisor, "a", Phase::Running).await;
            assert_eq!(supervisor.put(entry("a", "1")).await, Put::Unchanged);
            assert_eq!(supervisor.put(entry("a", "2")).await, Put::Changed);
            while phase(&supervisor, "a", Phase::Running).await.starts < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(supervisor.stop_entry("a").await);
            assert_eq!(phase(&supervisor, "a", Phase::Stopped).await.pid, None);
            // Stopped on purpose: a reload does not start it.
            assert_eq!(supervisor.put(entry("a", "2")).await, Put::Unchanged);
            assert!(supervisor.start_entry("a").await);
            phase(&supervisor, "a", Phase::Running).await;
            assert!(supervisor.restart("a").await);
            assert!(!supervisor.stop_entry("b").await);
            assert_eq!(supervisor.put(entry("b", "1")).await, Put::Added);
            supervisor.stop_all(Duration::from_secs(1)).await;
            phase(&supervisor, "b", Phase::Stopped).await;
            assert_eq!(supervisor.put(entry("c", "1")).await, Put::Unchanged);
            assert!(supervisor.remove("a").await);
            assert_eq!(supervisor.list().await.len(), 1);
        });
    }
}
