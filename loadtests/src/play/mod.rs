//! `loadtests run FILE`, `rooms` and `soak`: scenarios from files on real Redis, etcd, edges and nodes. Members come, speak, are cut
//! off and leave, services are killed and drained, and what must hold is judged at the end.

pub mod file;
pub mod html;
pub mod limits;
pub mod media;
pub mod member;
pub mod report;
pub mod schedule;
pub mod stage;
pub mod tally;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use file::{Deed, Fault, Scenario};
use member::{Member, Order, World};
use report::{Done, Report, Sample};
use schedule::{Mix, Poisson, rooms_at};
use stage::{GRACE, Stage};

use crate::peer::Certificate;
use crate::signalling::hold::most_per_process;
use crate::signalling::report::{CpuTime, Machine};
use crate::signalling::unless_stopped;

/// Between two looks at the schedule.
const TICK: Duration = Duration::from_millis(50);
/// Orders to a member that wait; one that does not take them is busy, and is left alone.
const ORDERS: usize = 4;
/// For members that were told to leave.
const LEAVE: Duration = Duration::from_secs(30);
/// Beyond the grace, for the store to let go who was cut off, and for sockets to close.
const LET_GO: Duration = Duration::from_secs(30);
/// As long as nothing changes it is not going on.
const STEADY: Duration = Duration::from_secs(3);

/// `loadtests run`.
#[derive(Debug, Clone, clap::Args)]
pub struct FileOptions {
    /// The scenario (YAML).
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// `loadtests rooms`.
#[derive(Debug, Clone, clap::Args)]
pub struct RoomsOptions {
    #[command(flatten)]
    common: Common,
}

/// `loadtests soak`.
#[derive(Debug, Clone, clap::Args)]
pub struct SoakOptions {
    /// How long, in minutes: at least 7, as memory is judged from the sixth on.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(7..=100_000))]
    minutes: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// Where the programs `edge-signal` and `sfu-node` are, if not beside this one.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Writes the report with plots to this file, too.
    #[arg(long)]
    html: Option<PathBuf>,
}

impl FileOptions {
    /// Runs the file's scenario.
    pub fn run(&self) -> anyhow::Result<Report> {
        let text = std::fs::read_to_string(&self.file).with_context(|| self.file.display().to_string())?;
        play(&Scenario::read(&text).with_context(|| self.file.display().to_string())?, &self.common)
    }
}

impl RoomsOptions {
    /// Runs the scenario of rooms of many shapes.
    pub fn run(&self) -> anyhow::Result<Report> {
        play(&Scenario::read(include_str!("../../scenarios/rooms.yaml"))?, &self.common)
    }
}

impl SoakOptions {
    /// Runs the soak.
    pub fn run(&self) -> anyhow::Result<Report> {
        let scenario = Scenario::read(include_str!("../../scenarios/soak.yaml"))?;
        play(&scenario.lasting(Duration::from_secs(60 * self.minutes)), &self.common)
    }
}

fn play(scenario: &Scenario, common: &Common) -> anyhow::Result<Report> {
    most_per_process();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(unless_stopped(perform(scenario, common.programs.clone())))?;
    if let Some(path) = &common.html {
        std::fs::write(path, html::page(&report)).with_context(|| path.display().to_string())?;
    }
    Ok(report)
}

async fn perform(scenario: &Scenario, programs: Option<PathBuf>) -> anyhow::Result<Report> {
    eprintln!("starting Redis, etcd, {} edges and {} nodes", scenario.deployment.edges, scenario.deployment.nodes);
    let (machine, begun) = (Machine::this(), CpuTime::now());
    let mut stage = Stage::start(scenario, programs).await?;
    for (name, admin) in stage.admin_addresses()? {
        eprintln!("{name}: http://{admin}/metrics");
    }
    let mut members = 0;
    if let Some(length) = scenario.warm_up {
        (stage, members) = warm_up(&scenario.warming_up(length), stage).await?;
    }
    let before = stage.used();
    let mut performance = Performance::new(scenario, stage, members)?;
    eprintln!("measuring for {:?}", scenario.length.0);
    performance.run().await?;
    let (mut report, _) = performance.end(&before).await;
    report.machine = Machine { stolen_percent: CpuTime::now().stolen_percent_since(begun), ..machine };
    report.goals = limits::judge(&scenario.limits, scenario.last_ramp_ends(), &report);
    Ok(report)
}

/// Everybody is there once, and leaves. So many members there were: whoever comes later is somebody else.
async fn warm_up(scenario: &Scenario, stage: Stage) -> anyhow::Result<(Stage, u64)> {
    eprintln!("warming up for {:?}", scenario.length.0);
    let mut performance = Performance::new(scenario, stage, 0)?;
    performance.run().await?;
    let members = performance.next_member;
    let (_, stage) = performance.end(&[]).await;
    // What is still open of those who left must not count as what was there before anybody came.
    let descriptors = || stage.used().iter().map(|(_, used)| used.descriptors).sum::<u64>();
    let (deadline, mut former) = (Instant::now() + LET_GO, descriptors());
    while Instant::now() < deadline {
        sleep(STEADY).await;
        let now = descriptors();
        if now == former {
            break;
        }
        former = now;
    }
    Ok((stage, members))
}

/// A place in a room, and whoever has it.
struct Seat {
    room: usize,
    number: usize,
    orders: Sender<Order>,
}

/// A scenario that goes on.
struct Performance<'a> {
    scenario: &'a Scenario,
    stage: Stage,
    media: media::Running,
    world: Arc<World>,
    mix: Mix,
    /// Kind of each room.
    rooms: Vec<usize>,
    seats: Vec<Seat>,
    members: JoinSet<()>,
    next_member: u64,
    leaving: Poisson,
    cutting: Poisson,
    faults: VecDeque<Fault>,
    restarted: Vec<String>,
    report: Report,
}

impl<'a> Performance<'a> {
    fn new(scenario: &'a Scenario, stage: Stage, next_member: u64) -> anyhow::Result<Self> {
        let media = media::Running::start()?;
        let world = World {
            edges: stage.edges(),
            certificate: Certificate::generate()?,
            studio: media.studio.clone(),
            tally: tally::Tally::default(),
            begin: Instant::now(),
            broadcast_every: scenario.broadcast_every.map(|every| every.0),
        };
        let mut faults = scenario.faults.clone();
        faults.sort_by_key(|fault| fault.at);
        Ok(Self {
            mix: Mix::new(&scenario.rooms.iter().map(|kind| kind.share).collect::<Vec<_>>()),
            leaving: Poisson::new(scenario.churn.leave_per_second, scenario.seed),
            cutting: Poisson::new(scenario.churn.cut_per_second, scenario.seed + 1),
            report: Report { about: scenario.about.clone(), ..Report::default() },
            scenario,
            stage,
            media,
            world: Arc::new(world),
            rooms: Vec::new(),
            seats: Vec::new(),
            members: JoinSet::new(),
            next_member,
            faults: faults.into(),
            restarted: Vec::new(),
        })
    }

    async fn run(&mut self) -> anyhow::Result<()> {
        let begin = self.world.begin;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_sample = Duration::ZERO;
        loop {
            ticks.tick().await;
            let at = begin.elapsed();
            if at >= self.scenario.length.0 {
                return Ok(());
            }
            // Whoever has left: a panic is ours.
            while let Some(ended) = self.members.try_join_next() {
                ended.context("a member")?;
            }
            self.ramp(rooms_at(&self.scenario.ramps, at));
            self.churn(at);
            while self.faults.front().is_some_and(|fault| fault.at.0 <= at) {
                let Some(fault) = self.faults.pop_front() else { break };
                self.carry_out(&fault, at);
            }
            if at >= next_sample {
                next_sample += Duration::from_secs(1);
                self.sample(at).await;
            }
        }
    }

    fn ramp(&mut self, rooms: usize) {
        while self.rooms.len() < rooms {
            let kind = self.mix.deal();
            let room = self.rooms.len();
            self.rooms.push(kind);
            for number in 0..self.scenario.rooms[kind].members {
                let orders = self.enter(room, number, self.scenario.rooms[kind].comes_after(number));
                self.seats.push(Seat { room, number, orders });
            }
        }
        if self.rooms.len() > rooms {
            self.rooms.truncate(rooms);
            self.seats.retain(|seat| {
                let stays = seat.room < rooms;
                if !stays {
                    // Its queue has room, or it hears that nobody gives it orders any more: the same.
                    let _ = seat.orders.try_send(Order::Leave);
                }
                stays
            });
        }
    }

    /// A new member takes a seat, and comes after so long.
    fn enter(&mut self, room: usize, seat: usize, after: Duration) -> Sender<Order> {
        let (orders, mut taken) = channel(ORDERS);
        let streams = self.scenario.rooms[self.rooms[room]].streams(seat);
        let (number, room, world) = (self.next_member, format!("room-{room}"), Arc::clone(&self.world));
        self.next_member += 1;
        self.members.spawn(async move {
            if member::is_to_come(after, &mut taken).await {
                Member::new(number, room, streams, world, taken).run().await;
            }
        });
        orders
    }

    fn churn(&mut self, at: Duration) {
        let (leaving, cut) = (self.leaving.due(at), self.cutting.due(at));
        if self.seats.is_empty() {
            return;
        }
        for _ in 0..leaving {
            let place = self.leaving.pick(self.seats.len());
            let (room, number) = (self.seats[place].room, self.seats[place].number);
            let orders = self.enter(room, number, Duration::ZERO);
            let former = std::mem::replace(&mut self.seats[place].orders, orders);
            // As above.
            let _ = former.try_send(Order::Leave);
        }
        for _ in 0..cut {
            let place = self.cutting.pick(self.seats.len());
            // One that is busy is left alone.
            let _ = self.seats[place].orders.try_send(Order::Cut);
        }
    }

    fn carry_out(&mut self, fault: &Fault, at: Duration) {
        if matches!(fault.deed, Deed::Kill | Deed::Drain | Deed::Restart) {
            self.restarted.push(fault.what.clone());
        }
        let what = format!("{:?} {}", fault.deed, fault.what).to_lowercase();
        eprintln!("{:6.0} s  {what}", at.as_secs_f64());
        let error = tokio::task::block_in_place(|| self.stage.carry_out(fault)).err().map(|error| format!("{error:#}"));
        self.report.faults.push(Done { at: at.as_secs_f64(), what, error });
    }

    async fn sample(&mut self, at: Duration) {
        let (signalling, media) = (self.world.tally.figures(), self.media.studio.figures());
        let former = self.report.samples.last().map_or(0.0, |sample| sample.at);
        let packets = (media.received - self.report.media.received) as f64;
        let sample = Sample {
            at: at.as_secs_f64(),
            rooms: self.rooms.len(),
            members: signalling.members,
            failed: signalling.failures(),
            refused: signalling.refusals(),
            streams: media.receiving,
            packets_per_second: packets / (at.as_secs_f64() - former).max(0.1),
            gap_ms: media.recent_gap_ms,
            store_bytes: self.stage.store_bytes().await,
            used: self.stage.used().into_iter().collect(),
        };
        tell(&sample);
        self.report.samples.push(sample);
        (self.report.signalling, self.report.media) = (signalling, media);
    }

    /// All leave; what is left then?
    async fn end(mut self, before: &[(String, stage::Used)]) -> (Report, Stage) {
        self.report.seconds = self.world.begin.elapsed().as_secs_f64();
        // What leaving makes of media is no silence: the figures are those of just before.
        (self.report.signalling, self.report.media) = (self.world.tally.figures(), self.media.studio.figures());
        self.report.sum_up(self.scenario.limits.settle.0, &self.restarted);
        eprintln!("{} members leave", self.seats.len());
        // Without their seats' ends they leave, too.
        self.seats.clear();
        let gone = async { while self.members.join_next().await.is_some() {} };
        if timeout(LEAVE, gone).await.is_err() {
            self.members.abort_all();
        }
        self.report.signalling.failed = self.world.tally.figures().failed;
        let deadline = Instant::now() + GRACE + LET_GO;
        loop {
            self.report.ghosts = self.stage.members_in_store().await.ok();
            let after: BTreeMap<_, _> = self.stage.used().into_iter().collect();
            let mut leaked = false;
            for (name, before) in before {
                let (Some(course), Some(after)) = (self.report.services.get_mut(name), after.get(name)) else {
                    continue;
                };
                course.before_and_after = Some((before.descriptors, after.descriptors));
                // Nobody waits for what nobody asked.
                leaked |= self.scenario.limits.descriptors.is_some() && after.descriptors > before.descriptors;
            }
            let clean = self.report.ghosts == Some(0) && !leaked;
            if clean || Instant::now() >= deadline {
                return (self.report, self.stage);
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// A line for people: each second at first, later each tenth.
fn tell(sample: &Sample) {
    let Sample { at, rooms, members, failed, streams, packets_per_second, gap_ms, used, .. } = sample;
    if *at > 60.0 && !(*at as u64).is_multiple_of(10) {
        return;
    }
    let memory: Vec<String> = used
        .iter()
        .map(|(name, used)| format!("{name} {:.0}M/{}", used.rss_kib as f64 / 1_024.0, used.descriptors))
        .collect();
    let memory = memory.join(" ");
    eprintln!(
        "{at:6.0} s  {rooms} rooms, {members} members, {failed} failed, {streams} streams, {packets_per_second:.0} packets/s, silence {gap_ms:.0} ms, {memory}"
    );
}
