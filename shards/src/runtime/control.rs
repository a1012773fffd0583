//! The control shard's thread: a glommio task that runs the state machine whenever a shard has reported.

use super::change::Request;
use super::{Parcel, Shared};
use crate::builtin::Definition;
use crate::control::Control;
use crate::ids::ShardId;
use crate::registry::FunctionHasher;
use crate::ring::mesh::Port;
use crate::ring::spsc::Full;
use crossbeam_channel::Receiver;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How long control stays after the stop, to answer what is still asked.
const STOP_LINGER: Duration = Duration::from_millis(1600);

/// Workers that must have been there before their leaving is worth a trim.
const TRIM_WORKERS: usize = 256;

/// Runs until the engine stops.
pub(super) async fn run(
    shared: Arc<Shared>,
    hasher: FunctionHasher,
    mut port: Port<Parcel>,
    built_ins: &[Arc<Definition>],
    changes: Receiver<Request>,
) {
    let mut control = Control::new(shared.settings.clone(), hasher, rand::random(), shared.now());
    control.add_built_ins(built_ins);
    let mut stop_by: Option<Instant> = None;
    let mut workers_peak = 0;
    let mut applying: Option<Request> = None;
    loop {
        control.set_time(shared.now());
        port.receive(|_, mut parcel| control.handle_batch(&mut parcel.batch));
        control.handle_timers();
        if control.take_changed()
            && let Some(request) = applying.take()
        {
            // Whoever asked may have given up.
            let _ = request.applied.try_send(());
        }
        if applying.is_none()
            && let Ok(request) = changes.try_recv()
        {
            control.apply_change(&request.change);
            applying = Some(request);
        }
        if stop_by.is_none() && shared.stopping.load(Ordering::SeqCst) {
            stop_by = Some(Instant::now() + STOP_LINGER);
            control.stop();
        }
        workers_peak = control.worker_count().max(workers_peak);
        if workers_peak >= TRIM_WORKERS && control.worker_count() < workers_peak / 4 {
            workers_peak = control.worker_count();
            control.shrink();
            (shared.settings.trim_memory)();
        }
        let mut backlog = false;
        for peer in 0..shared.settings.shards {
            backlog |= !flush(&mut control, &mut port, &shared, peer);
        }
        if let Some(stop_by) = stop_by {
            if control.worker_count() == 0 || Instant::now() >= stop_by {
                return;
            }
            glommio::timer::sleep(Duration::from_millis(5)).await;
        } else if backlog {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        } else {
            let deadline_ms = control.next_deadline_ms();
            wait(&shared, &port, &changes, deadline_ms).await;
        }
    }
}

fn flush(control: &mut Control, port: &mut Port<Parcel>, shared: &Shared, peer: usize) -> bool {
    let batch = control.outgoing(ShardId(peer as u16));
    if batch.is_empty() {
        return true;
    }
    match port.try_send(peer, Parcel { batch: std::mem::take(batch), sockets: Vec::new() }) {
        Ok(asleep) => {
            if asleep {
                shared.wake(peer);
            }
            true
        }
        Err(Full(parcel)) => {
            *control.outgoing(ShardId(peer as u16)) = parcel.batch;
            false
        }
    }
}

/// Sleeps until a shard has something, a deadline has come, or the engine stops.
async fn wait(shared: &Shared, port: &Port<Parcel>, changes: &Receiver<Request>, deadline_ms: Option<u64>) {
    let pause = deadline_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(shared.now().ms)));
    let mut alarm = pin!(async move {
        match pause {
            Some(pause) => glommio::timer::sleep(pause).await,
            None => std::future::pending().await,
        }
    });
    poll_fn(|context| {
        shared.control_waker.register(context.waker());
        let awake = !port.signal().prepare_sleep()
            || shared.stopping.load(Ordering::SeqCst)
            || !changes.is_empty()
            || alarm.as_mut().poll(context).is_ready();
        if awake { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    port.signal().woke();
}
