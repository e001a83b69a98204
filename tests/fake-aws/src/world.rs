//! The world: what there is, what happens to it, and what was seen.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Bytes;
use tokio::sync::Notify;

use crate::access;
use crate::caller::{Caller, Session};
use crate::clock::Clock;
use crate::content::{Contents, Opened};
use crate::control::{self, Hold};
use crate::estate::{Account, Estate, Snapshot};
use crate::events::{Counters, Event, is_throttle};
use crate::fault::{Fault, Plan, Rule};
use crate::quota::Buckets;
use crate::reply::{Broken, Delivery, FakeBody, Refusal, Reply};
use crate::request::{Call, Service};
use crate::{ebs, ec2, kms, recycle_bin, service_quotas, sts};

/// A world. Its clones are the same world.
#[derive(Debug, Clone)]
pub struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    contents: Contents,
    state: Mutex<State>,
    released: Notify,
    in_flight: AtomicU64,
}

/// What changes.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) estate: Estate,
    pub(crate) plan: Plan,
    pub(crate) buckets: Buckets,
    pub(crate) sessions: HashMap<String, Session>,
    pub(crate) events: Vec<Event>,
    pub(crate) counters: Counters,
    pub(crate) hold: Option<Hold>,
    /// The number of tokens, ids and requests so far.
    pub(crate) serial: u64,
}

impl State {
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn account(&self, id: &str) -> Option<&Account> {
        self.estate.accounts.iter().find(|account| account.id == id)
    }
}

/// One call while it is answered.
pub(crate) struct Scene<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) contents: &'a Contents,
    pub(crate) call: &'a Call,
    pub(crate) caller: Caller,
    pub(crate) now_ms: u64,
    pub(crate) request_id: String,
    /// A list is to return an empty page.
    pub(crate) empty_page: bool,
    /// A list is to end after so many rows, whatever there is.
    pub(crate) stale_rows: Option<usize>,
    /// What the call creates is found only later, by so much.
    pub(crate) visible_after_ms: u64,
    /// What the call created.
    pub(crate) created: Vec<String>,
    /// The block to send.
    pub(crate) block: Option<(Arc<Opened>, u32)>,
}

/// What came of a call.
struct Outcome {
    /// None: the connection is reset.
    reply: Option<Reply>,
    block: Option<(Arc<Opened>, u32)>,
    faults: Vec<Fault>,
    latency: Duration,
    request_id: String,
    is_held: bool,
}

impl World {
    /// An empty world: one account, one region.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::of(clock, Estate::default())
    }

    /// A world with what `estate` says.
    #[must_use]
    pub fn of(clock: Arc<dyn Clock>, estate: Estate) -> Self {
        let inner = Inner {
            clock,
            contents: Contents::default(),
            state: Mutex::default(),
            released: Notify::new(),
            in_flight: AtomicU64::new(0),
        };
        let world = Self(Arc::new(inner));
        world.load(estate);
        world
    }

    /// Begins anew: another estate, an empty log, counters at zero.
    pub fn load(&self, estate: Estate) {
        let plan = Plan::new(estate.faults.clone());
        *self.state() = State { estate, plan, ..State::default() };
        self.0.released.notify_waiters();
    }

    /// Changes what there is: another tool deletes a snapshot, an instance stops, a quota is raised.
    pub fn change<T>(&self, change: impl FnOnce(&mut Estate) -> T) -> T {
        change(&mut self.state().estate)
    }

    /// What there is now.
    #[must_use]
    pub fn estate(&self) -> Estate {
        self.state().estate.clone()
    }

    /// Adds a rule to the fault plan.
    pub fn add_fault(&self, rule: Rule) {
        self.state().plan.add(rule);
    }

    /// Forgets the fault plan.
    pub fn clear_faults(&self) {
        self.state().plan = Plan::default();
    }

    /// The log.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let state = self.state();
        let in_flight = self.0.in_flight.load(Ordering::Relaxed);
        let held = state.hold.as_ref().is_some_and(|hold| hold.is_reached);
        let events = u64::try_from(state.events.len()).unwrap_or(u64::MAX);
        Counters { in_flight, held, events, ..state.counters.clone() }
    }

    /// The snapshots with our scan-id tag that nobody has deleted. Those whose deletion waits for them to complete are
    /// none, nor are those in the Recycle Bin.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        self.scanned(|snapshot| snapshot.deleted_ms.is_none())
    }

    /// The snapshots with our scan-id tag that are in the Recycle Bin.
    #[must_use]
    pub fn in_recycle_bin(&self) -> Vec<String> {
        let now_ms = self.now_ms();
        self.scanned(|snapshot| snapshot.is_in_recycle_bin(now_ms))
    }

    fn scanned(&self, is_wanted: impl Fn(&Snapshot) -> bool) -> Vec<String> {
        let state = self.state();
        let tag = &state.estate.settings.scan_id_tag;
        let ours = state.estate.snapshots.iter().filter(|snapshot| snapshot.tags.contains_key(tag));
        ours.filter(|snapshot| is_wanted(snapshot)).map(|snapshot| snapshot.id.clone()).collect()
    }

    /// Holds the world still at an event, so that a process can be killed right there: the event's caller gets no
    /// reply, and no other call is answered, until [`World::release`].
    pub fn hold(&self, hold: Hold) {
        self.state().hold = Some(hold);
    }

    /// Goes on.
    pub fn release(&self) {
        self.state().hold = None;
        self.0.released.notify_waiters();
    }

    /// Answers a request of any of the services, or of `/_fake/`.
    ///
    /// # Errors
    /// [`Broken`] where the connection is to be reset.
    pub async fn answer(&self, request: Request<Bytes>) -> Result<Response<FakeBody>, Broken> {
        if request.uri().path().starts_with("/_fake/") {
            return Ok(control::answer(self, &request).into_response(&self.0.clock));
        }
        let call = Call::read(&request);
        let _in_flight = InFlight::new(self);
        self.until_free().await;
        let outcome = self.perform(&call);
        let mut reply = outcome.reply;
        if let (Some((opened, index)), Some(reply)) = (outcome.block, &mut reply) {
            match ebs::block_reply(&opened, index, &outcome.faults) {
                Ok(block) => *reply = block,
                Err(error) => *reply = internal(&error).reply(call.service, &outcome.request_id),
            }
        }
        if !outcome.latency.is_zero() {
            self.0.clock.sleep(outcome.latency).await;
        }
        if outcome.is_held {
            self.until_free().await;
        }
        let mut reply = reply.ok_or(Broken)?;
        reply.headers.push(("x-amzn-requestid", outcome.request_id));
        for fault in outcome.faults {
            match fault {
                Fault::Cut { at_bytes } => reply.delivery = Delivery::Cut(at_bytes),
                Fault::Drip { bytes_per_second } => reply.delivery = Delivery::Drip(bytes_per_second),
                _ => {}
            }
        }
        Ok(reply.into_response(&self.0.clock))
    }

    /// Waits while the world is held still.
    async fn until_free(&self) {
        loop {
            let released = self.0.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            {
                let mut state = self.state();
                let events = u64::try_from(state.events.len()).unwrap_or(u64::MAX);
                match &mut state.hold {
                    Some(hold) if hold.is_reached || (hold.before && events + 1 >= hold.event) => {
                        hold.is_reached = true;
                    }
                    _ => return,
                }
            }
            released.await;
        }
    }

    /// The effect of a call, and its line in the log.
    fn perform(&self, call: &Call) -> Outcome {
        let now_ms = self.now_ms();
        let mut guard = self.state();
        let state = &mut *guard;
        let serial = state.next_serial();
        let request_id = format!("{:08x}-fa4e-4a55-8000-{:012x}", now_ms & 0xffff_ffff, serial);
        let mut resources = named_resources(call);
        let faults = state.plan.faults(&call.operation, &resources);
        let caller = Caller::of(state, call, now_ms);
        let place = caller.clone().ok();
        let mut block = None;
        let result = caller.and_then(|caller| {
            if let Some(refusal) = early(call.service, &faults) {
                return Err(refusal);
            }
            let mut scene = Scene {
                contents: &self.0.contents,
                call,
                caller,
                now_ms,
                request_id: request_id.clone(),
                empty_page: faults.contains(&Fault::EmptyPage),
                stale_rows: faults.iter().find_map(|fault| match fault {
                    Fault::StaleList { rows } => Some(*rows),
                    _ => None,
                }),
                visible_after_ms: visible_after_ms(&faults),
                created: Vec::new(),
                block: None,
                state: &mut *state,
            };
            // A reset befalls a call before its effect.
            let result =
                if faults.contains(&Fault::Reset) { Ok(None) } else { perform(&mut scene).map(Some) };
            block = scene.block;
            resources.extend(scene.created);
            result
        });
        let effect = match &result {
            Ok(Some(_)) => "ok".to_owned(),
            Ok(None) => "reset".to_owned(),
            Err(refusal) => refusal.code.clone(),
        };
        let mut reply = result.unwrap_or_else(|refusal| Some(refusal.reply(call.service, &request_id)));
        if faults.contains(&Fault::ReplyLost) {
            reply = None;
        }
        let event = Event {
            number: u64::try_from(state.events.len() + 1).unwrap_or(u64::MAX),
            at_ms: now_ms,
            account: place.as_ref().map(|place| place.account.clone()).unwrap_or_default(),
            region: place.map(|place| place.region).or_else(|| call.region.clone()).unwrap_or_default(),
            operation: call.operation.clone(),
            resources,
            effect,
            faults: faults.iter().map(fault_name).collect(),
            status: reply.as_ref().map_or(0, |reply| reply.status),
            request_id: request_id.clone(),
        };
        let latency = latency(state, call, &faults);
        let is_held = state.note(event, block.is_some());
        Outcome { reply, block, faults, latency, request_id, is_held }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.0.clock.now().as_millis()).unwrap_or(u64::MAX)
    }
}

impl State {
    /// Writes an event and counts it. Says whether the world is to be held still at it.
    fn note(&mut self, event: Event, sends_block: bool) -> bool {
        let counters = &mut self.counters;
        *counters.calls.entry(event.operation.clone()).or_default() += 1;
        counters.gets += u64::from(event.operation == "GetSnapshotBlock");
        counters.lists +=
            u64::from(matches!(event.operation.as_str(), "ListSnapshotBlocks" | "ListChangedBlocks"));
        counters.throttles += u64::from(is_throttle(&event.effect));
        counters.faults += u64::try_from(event.faults.len()).unwrap_or(0);
        counters.block_bytes += if sends_block { 512 * 1024 } else { 0 };
        if !matches!(event.effect.as_str(), "ok" | "reset") {
            *counters.refusals.entry(event.effect.clone()).or_default() += 1;
        }
        let is_held = match &mut self.hold {
            Some(hold) if !hold.before && event.number == hold.event => {
                hold.is_reached = true;
                true
            }
            _ => false,
        };
        self.events.push(event);
        is_held
    }
}

fn perform(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let (service, operation) = (scene.call.service, scene.call.operation.as_str());
    scene.caller.check_allowed(scene.state, service, operation)?;
    if !access::knows_resources(service, operation) {
        access::check(scene)?;
    }
    match service {
        Service::Ec2 => ec2::answer(scene),
        Service::Sts => sts::answer(scene),
        Service::Ebs => ebs::answer(scene),
        Service::Kms => kms::answer(scene),
        Service::RecycleBin => recycle_bin::answer(scene),
        Service::Quotas => service_quotas::answer(scene),
    }
}

/// The refusals that a plan asks for, before any effect.
fn early(service: Service, faults: &[Fault]) -> Option<Refusal> {
    let internal = match service {
        Service::Ebs | Service::RecycleBin => "InternalServerException",
        Service::Kms => "KMSInternalException",
        Service::Quotas => "ServiceException",
        Service::Ec2 => "InternalError",
        Service::Sts => "InternalFailure",
    };
    faults.iter().find_map(|fault| match fault {
        Fault::Throttle { code: Some(code) } => {
            let status = if code == "RequestLimitExceeded" { 503 } else { 400 };
            Some(Refusal::new(status, code, "the fault plan says: too fast"))
        }
        Fault::Throttle { code: None } => Some(too_fast(service, "ACCOUNT_THROTTLED")),
        Fault::Http { status } => {
            let code = if *status == 503 { "ServiceUnavailable" } else { internal };
            Some(Refusal::new(*status, code, "the fault plan says: the service fails"))
        }
        Fault::Error { status, code, reason } => {
            let refusal = Refusal::new(*status, code, "the fault plan says so");
            Some(Refusal { reason: reason.clone(), ..refusal })
        }
        Fault::KmsDenied => Some(kms_denied("the key")),
        _ => None,
    })
}

pub(crate) fn too_fast(service: Service, reason: &str) -> Refusal {
    match service {
        Service::Ebs => Refusal::new(400, "RequestThrottledException", "Rate exceeded").because(reason),
        Service::Ec2 => Refusal::new(503, "RequestLimitExceeded", "Request limit exceeded."),
        Service::Sts => Refusal::new(400, "Throttling", "Rate exceeded"),
        Service::Quotas => Refusal::new(400, "TooManyRequestsException", "Rate exceeded"),
        Service::Kms | Service::RecycleBin => Refusal::new(400, "ThrottlingException", "Rate exceeded"),
    }
}

pub(crate) fn kms_denied(key: &str) -> Refusal {
    Refusal::new(403, "AccessDeniedException", format!("The caller may not use {key}"))
        .because("DEPENDENCY_ACCESS_DENIED")
}

pub(crate) fn internal(error: &dyn std::fmt::Display) -> Refusal {
    // 501 is no status that a client tries again: a broken world file is to be seen at once.
    Refusal::new(501, "FakeError", error.to_string())
}

/// The name of a fault in a plan.
fn fault_name(fault: &Fault) -> String {
    let json = serde_json::to_value(fault).unwrap_or_default();
    json.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned()
}

fn visible_after_ms(faults: &[Fault]) -> u64 {
    let seconds = faults.iter().map(|fault| match fault {
        Fault::NotFoundAfterCreate { seconds } => *seconds,
        _ => 0,
    });
    seconds.max().unwrap_or(0) * 1_000
}

fn latency(state: &State, call: &Call, faults: &[Fault]) -> Duration {
    let settings = &state.estate.settings;
    let own = settings.latency_by_operation_ms.get(&call.operation).copied().unwrap_or(settings.latency_ms);
    let delays = faults.iter().map(|fault| match fault {
        Fault::Delay { milliseconds } => *milliseconds,
        _ => 0,
    });
    Duration::from_millis(own + delays.sum::<u64>())
}

/// The ids that a call names.
fn named_resources(call: &Call) -> Vec<String> {
    if call.service == Service::Ebs {
        let mut resources: Vec<String> = call.path.get(1).cloned().into_iter().collect();
        if let [_, snapshot, _, index] = call.path.as_slice() {
            resources.push(format!("{snapshot}/{index}"));
        }
        resources.extend(call.value("firstSnapshotId").map(ToOwned::to_owned));
        return resources;
    }
    if call.service == Service::RecycleBin {
        return call.path.get(1).cloned().into_iter().collect();
    }
    let is_id = |name: &str| {
        let name = name.split(".ExcludeDataVolumeId").next().unwrap_or_default();
        let name = name.trim_end_matches(|character: char| character.is_ascii_digit() || character == '.');
        matches!(
            name,
            "InstanceId"
                | "VolumeId"
                | "SnapshotId"
                | "InstanceSpecification.InstanceId"
                | "RoleArn"
                | "KeyId"
                | "QuotaCode"
        )
    };
    call.parameters.iter().filter(|(name, _)| is_id(name)).map(|(_, value)| value.clone()).collect()
}

/// Counts a call as long as it is answered.
struct InFlight<'a>(&'a World);

impl<'a> InFlight<'a> {
    fn new(world: &'a World) -> Self {
        let now = world.0.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        let counters = &mut world.state().counters;
        counters.max_in_flight = counters.max_in_flight.max(now);
        Self(world)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
