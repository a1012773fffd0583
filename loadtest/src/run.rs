//! One run from start to end: the coordinator asks its generator threads for one step after the other and watches the
//! server process meanwhile.
//!
//! ```text
//! connect idle ► probe ► connect load ► probe ► warm up ► measure ► drain ► idle workers leave ► settle
//! ```
//!
//! Owner: the main thread, which sleeps nearly all the time. Invariant: a step begins when every thread has finished
//! the one before, so that memory can be read between them.

use crate::generator::{Generator, Schedule, Share};
use crate::options::Options;
use crate::process::{Process, allow_connections, pin};
use crate::progress::Progress;
use crate::tally::Tally;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often memory is read and the progress bar drawn.
const TICK: Duration = Duration::from_millis(100);
/// How long a thread without an order serves its connections before it looks for one.
const BETWEEN_ORDERS: Duration = Duration::from_millis(1);
/// Time from the order to begin until the first call, so that all threads begin together.
const HEAD_START: Duration = Duration::from_millis(5);

/// What a run found out.
#[derive(Debug)]
pub struct Outcome {
    pub tally: Tally,
    /// Length of the measured window.
    pub window: Duration,
    pub server: Option<Usage>,
    /// CPU time of this process in the window, in µs.
    pub generator_cpu_us: u64,
    pub ramp: Option<Ramp>,
}

/// What the server used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub pid: u32,
    /// CPU time in the window, in µs.
    pub cpu_us: u64,
    pub resident_start_bytes: u64,
    pub resident_peak_bytes: u64,
    pub resident_end_bytes: u64,
}

/// How the idle workers fared.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    /// From the first connect to the last acceptance.
    pub connected: Duration,
    /// From the first connect until every idle worker's functions could be called.
    pub serving: Duration,
    /// Growth of the server's resident memory meanwhile, in bytes.
    pub resident_growth_bytes: Option<u64>,
    /// The server's resident memory after the idle workers left and the settle time passed, in bytes.
    pub resident_left_bytes: Option<u64>,
}

/// Runs the load. The error is a sentence for the user.
pub fn run(options: &Options) -> Result<Outcome, String> {
    allow_connections(options.connections())?;
    let mut watch = Watch::new(options.server_pid)?;
    let options = Arc::new(options.clone());
    let mut crew = Crew::hire(&options)?;

    let mut ramp = None;
    if options.idle_workers > 0 {
        let begun = Instant::now();
        crew.perform(Step::ConnectIdle, "connecting idle workers", &mut watch)?;
        let connected = begun.elapsed();
        crew.perform(Step::ProbeIdle, "waiting for their functions", &mut watch)?;
        let serving = begun.elapsed();
        let resident_growth_bytes = watch.sample().map(|resident| resident.saturating_sub(watch.start_bytes));
        ramp = Some(Ramp { connected, serving, resident_growth_bytes, resident_left_bytes: None });
    }
    crew.perform(Step::ConnectLoad, "connecting", &mut watch)?;
    crew.perform(Step::ProbeLoad, "waiting for the functions", &mut watch)?;
    let (server_cpu_us, generator_cpu_us) = crew.measure(&options, &mut watch)?;
    let resident_end_bytes = watch.sample();
    if let Some(ramp) = &mut ramp {
        crew.perform(Step::DisconnectIdle, "disconnecting idle workers", &mut watch)?;
        std::thread::sleep(options.settle);
        ramp.resident_left_bytes = watch.sample();
    }

    let server = watch.process.zip(server_cpu_us).map(|(process, cpu_us)| Usage {
        pid: process.pid(),
        cpu_us,
        resident_start_bytes: watch.start_bytes,
        resident_peak_bytes: watch.peak_bytes,
        resident_end_bytes: resident_end_bytes.unwrap_or_default(),
    });
    Ok(Outcome { tally: crew.dismiss(), window: options.duration, server, generator_cpu_us, ramp })
}

/// What the coordinator may ask of a generator thread.
#[derive(Clone, Copy, Debug)]
enum Step {
    ConnectIdle,
    ProbeIdle,
    ConnectLoad,
    ProbeLoad,
    Run(Schedule),
    DisconnectIdle,
}

/// The generator threads and the lines to them.
struct Crew {
    epoch: Instant,
    orders: Vec<Sender<Step>>,
    reports: Receiver<Result<(), String>>,
    threads: Vec<JoinHandle<Tally>>,
    answered: Vec<Arc<AtomicU64>>,
    /// Threads that have not finished the current step.
    busy: usize,
    progress: Progress,
}

impl Crew {
    fn hire(options: &Arc<Options>) -> Result<Self, String> {
        let (report, reports) = channel();
        let epoch = Instant::now();
        let mut crew = Crew {
            epoch,
            orders: Vec::new(),
            reports,
            threads: Vec::new(),
            answered: Vec::new(),
            busy: 0,
            progress: Progress::new(),
        };
        for thread in 0..options.threads {
            let share = Share { thread, threads: options.threads };
            let answered = Arc::new(AtomicU64::new(0));
            let generator = Generator::new(Arc::clone(options), share, epoch, Arc::clone(&answered))
                .map_err(|error| format!("cannot set up the event loop: {error}"))?;
            let (order, orders) = channel();
            let report = report.clone();
            let cpu = options.pin.map(|first| first + thread);
            crew.orders.push(order);
            crew.answered.push(answered);
            crew.busy += 1;
            crew.threads.push(std::thread::spawn(move || work(generator, cpu, &orders, &report)));
        }
        // Each thread first reports whether it could be pinned.
        while !crew.wait(TICK)? {}
        Ok(crew)
    }

    fn order(&mut self, step: Step) {
        for order in &self.orders {
            order.send(step).expect("threads wait for orders until they are dismissed");
        }
        self.busy = self.orders.len();
    }

    /// Waits for reports, at most for `timeout`. True when the current step is finished.
    fn wait(&mut self, timeout: Duration) -> Result<bool, String> {
        let until = Instant::now() + timeout;
        while self.busy > 0 {
            match self.reports.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(report) => report?,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => return Err("a generator thread has died".to_owned()),
            }
            self.busy -= 1;
        }
        Ok(true)
    }

    fn perform(&mut self, step: Step, text: &str, watch: &mut Watch) -> Result<(), String> {
        self.order(step);
        while !self.wait(TICK)? {
            watch.sample();
            self.progress.show(text, None);
        }
        self.progress.clear();
        Ok(())
    }

    /// Has the load put on. Returns the CPU time of the server and of this process in the window, in µs.
    fn measure(&mut self, options: &Options, watch: &mut Watch) -> Result<(Option<u64>, u64), String> {
        let start = self.epoch.elapsed() + HEAD_START;
        let measure = start + options.warmup;
        let stop = measure + options.duration;
        let give_up = stop + options.drain;
        let [start_ns, measure_ns, stop_ns, give_up_ns] =
            [start, measure, stop, give_up].map(|at| at.as_nanos() as u64);
        self.order(Step::Run(Schedule { start_ns, measure_ns, stop_ns, give_up_ns }));

        self.wait_until(measure, start, stop, watch)?;
        let before = (watch.cpu_us(), Process::own().cpu_us().unwrap_or_default());
        self.wait_until(stop, start, stop, watch)?;
        let after = (watch.cpu_us(), Process::own().cpu_us().unwrap_or_default());
        self.progress.clear();
        while !self.wait(TICK)? {
            watch.sample();
        }
        let server = before.0.zip(after.0).map(|(before, after)| after.saturating_sub(before));
        Ok((server, after.1.saturating_sub(before.1)))
    }

    /// Sleeps until `until` on the run's clock, drawing how far it is from `start` to `stop`.
    fn wait_until(
        &mut self,
        until: Duration,
        start: Duration,
        stop: Duration,
        watch: &mut Watch,
    ) -> Result<(), String> {
        loop {
            let now = self.epoch.elapsed();
            let Some(left) = until.checked_sub(now).filter(|left| !left.is_zero()) else { return Ok(()) };
            if self.wait(left.min(TICK))? {
                // All threads are done early: every connection was lost.
                return Ok(());
            }
            watch.sample();
            let elapsed = self.epoch.elapsed().saturating_sub(start);
            let answered: u64 = self.answered.iter().map(|count| count.load(Ordering::Relaxed)).sum();
            let text = format!("{:.0} calls/s", answered as f64 / elapsed.as_secs_f64().max(0.001));
            self.progress.show(&text, Some(elapsed.as_secs_f64() / (stop - start).as_secs_f64().max(0.001)));
        }
    }

    fn dismiss(self) -> Tally {
        drop(self.orders);
        let mut total = Tally::default();
        for thread in self.threads {
            total.merge(&thread.join().expect("a panic would have aborted the process"));
        }
        total
    }
}

/// The life of a generator thread.
fn work(
    mut generator: Generator,
    cpu: Option<usize>,
    orders: &Receiver<Step>,
    report: &Sender<Result<(), String>>,
) -> Tally {
    let mut outcome = cpu.map_or(Ok(()), pin);
    // Reports are only lost when the coordinator has given up on the run.
    while report.send(outcome).is_ok() {
        let Some(step) = next_order(&mut generator, orders) else { break };
        outcome = match step {
            Step::ConnectIdle => generator.connect_idle(),
            Step::ProbeIdle => generator.probe_idle(),
            Step::ConnectLoad => generator.connect_load(),
            Step::ProbeLoad => generator.probe_load(),
            Step::Run(schedule) => generator.run(schedule),
            Step::DisconnectIdle => {
                generator.disconnect_idle();
                Ok(())
            }
        };
    }
    generator.take_tally()
}

/// Waits for the next order; `None` when there are no more. The connections are served meanwhile, because the callers of
/// other threads may still wait for this thread's workers.
fn next_order(generator: &mut Generator, orders: &Receiver<Step>) -> Option<Step> {
    loop {
        match orders.try_recv() {
            Ok(step) => return Some(step),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        if generator.serve(BETWEEN_ORDERS).is_err() {
            // The next step will meet the same error and report it.
            return orders.recv().ok();
        }
    }
}

/// Looks at the server process from time to time.
struct Watch {
    process: Option<Process>,
    start_bytes: u64,
    peak_bytes: u64,
}

impl Watch {
    fn new(pid: Option<u32>) -> Result<Self, String> {
        let mut watch = Watch { process: pid.map(Process::new), start_bytes: 0, peak_bytes: 0 };
        if let Some(pid) = pid {
            watch.start_bytes = watch.sample().ok_or_else(|| format!("there is no process {pid}"))?;
        }
        Ok(watch)
    }

    /// Resident memory now, in bytes.
    fn sample(&mut self) -> Option<u64> {
        let resident = self.process?.resident_bytes().ok()?;
        self.peak_bytes = self.peak_bytes.max(resident);
        Some(resident)
    }

    fn cpu_us(&self) -> Option<u64> {
        self.process?.cpu_us().ok()
    }
}
