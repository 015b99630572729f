//! A scenario's frame: a deployment under the usual load, a fault, and the verdict over everything that its clients went through.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::account::{Audit, Expected, audit};
use crate::deployment::{Deployment, Plan};
use crate::figures::Spread;
use crate::population::{Errors, Member, Population, Size, errors_after};

/// For everybody to come in and all media to flow, while other scenarios run on the same machine.
const START_WITHIN: Duration = Duration::from_mins(1);
/// For everything to be right again once the fault has ended, where nothing stricter is asked.
const SETTLE_WITHIN: Duration = Duration::from_mins(1);
/// Normal operation before the fault.
const BEFORE: Duration = Duration::from_secs(2);

/// A running scenario.
#[derive(Debug)]
pub struct Scenario {
    name: &'static str,
    /// The servers.
    pub deployment: Deployment,
    /// The clients.
    pub population: Population,
    /// Members who are no more; what happened to them counts in the account.
    pub gone: Vec<Member>,
    begun: Instant,
    fault: Option<Instant>,
    figures: Vec<String>,
}

/// How a scenario ended.
#[derive(Debug)]
pub struct Verdict {
    /// The account of all notifications; it has no violation.
    pub audit: Audit,
    /// From the fault until a client that had lost its connection was back in its room.
    pub back: Spread,
    /// The longest gap of each flow of media since the fault.
    pub gaps: Spread,
    /// The errors that were answered since the fault; the scenario expects each.
    pub errors: Errors,
    /// How often connections ended with each close code, or without any, since the fault.
    pub closes: BTreeMap<Option<u16>, usize>,
    /// From the fault until each of these.
    pub closing: Spread,
    /// How often edges turned clients away with each status, since the fault.
    pub turned_away: BTreeMap<u16, usize>,
    /// Requests that no retry healed since the fault: the method, and the last error.
    pub given_up: Vec<(&'static str, Option<i64>)>,
}

impl Scenario {
    /// Starts the deployment and the load, and waits until all is as it should be.
    pub async fn start(name: &'static str, plan: &Plan, size: Size) -> Self {
        let begun = Instant::now();
        let deployment = Deployment::start(plan).await.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let population = Population::enter(size, &deployment.addresses(), plan.ttl);
        let (gone, figures) = (Vec::new(), Vec::new());
        let scenario = Self { name, deployment, population, gone, begun, fault: None, figures };
        scenario.settled(START_WITHIN).await;
        tokio::time::sleep(BEFORE).await;
        scenario
    }

    /// The fault comes now: what it does is measured from here. Up to here nobody may have lost its connection.
    pub fn fault(&mut self) -> Instant {
        let closes: Vec<_> = self.population.closes_after(self.begun).into_iter().map(|(_, code)| code).collect();
        assert!(closes.is_empty(), "{}: connections ended before the fault, by code: {closes:?}", self.name);
        self.population.measure();
        *self.fault.insert(Instant::now())
    }

    /// Waits until everybody knows of everybody and all media flows.
    pub async fn settled(&self, within: Duration) {
        if let Err(missing) = self.population.settled(within).await {
            panic!("{}: {missing}", self.name);
        }
    }

    /// The same, and how long it took: a figure of the verdict.
    pub async fn right_again(&mut self, what: &str, within: Duration) -> Duration {
        let begun = Instant::now();
        self.settled(within).await;
        let took = begun.elapsed();
        self.figure(&format!("{what}: all right again after {} ms", took.as_millis()));
        took
    }

    /// Nobody notices anything for this long: nobody loses its connection, no stream is published anew.
    pub async fn nobody_notices(&self, time: Duration) {
        let (since, published) = (Instant::now(), self.population.published());
        tokio::time::sleep(time).await;
        let members = self.population.members.iter();
        let lost = members.filter(|member| member.client.journal().was_lost_after(since)).count();
        assert_eq!(lost, 0, "{}: clients lost their connections", self.name);
        assert_eq!(self.population.published(), published, "{}: streams were published anew", self.name);
    }

    /// Something that was measured, for people.
    pub fn figure(&mut self, figure: &str) {
        self.figures.push(figure.to_owned());
    }

    /// Ends the load and makes the account. Panics with everything that must not be.
    pub async fn verdict(mut self, expected: &Expected) -> Verdict {
        if let Err(missing) = self.population.quieten(SETTLE_WITHIN).await {
            panic!("{}: {missing}", self.name);
        }
        let back = self.fault.map(|fault| self.population.back_after(fault)).unwrap_or_default();
        let everybody = self.population.members.iter().chain(&self.gone);
        let errors = self.fault.map(|fault| errors_after(everybody, fault)).unwrap_or_default();
        let turned_away = self.fault.map(|fault| self.population.turned_away_after(fault)).unwrap_or_default();
        let given_up = self.fault.map(|fault| self.population.given_up_after(fault)).unwrap_or_default();
        let (mut closes, mut closing) = (BTreeMap::new(), Vec::new());
        if let Some(fault) = self.fault {
            for (at, code) in self.population.closes_after(fault) {
                *closes.entry(code).or_default() += 1;
                closing.push(at.saturating_duration_since(fault));
            }
        }
        let mut journals = self.population.journals();
        journals.extend(self.gone.iter().map(|member| member.client.journal().clone()));
        let (gaps, closing) = (self.population.gaps(), Spread::of(closing));
        let audit = audit(&journals, expected);
        let verdict = Verdict { audit, back, gaps, errors, closes, closing, turned_away, given_up };
        self.print(&verdict);
        let violations = &verdict.audit.violations;
        assert!(violations.is_empty(), "{}: {} violations:\n{}", self.name, violations.len(), violations.join("\n"));
        let unexpected: Vec<_> = verdict.errors.iter().filter(|(code, _)| !expected.errors.contains(code)).collect();
        assert!(unexpected.is_empty(), "{}: errors that the fault does not explain: {unexpected:?}", self.name);
        assert_eq!(self.population.refused(), 0, "{}: broadcasts were refused for good", self.name);
        assert_eq!(self.population.foreign_packets(), 0, "{}: somebody got another's media", self.name);
        verdict
    }

    #[expect(clippy::print_stdout, reason = "figures for people; the test harness shows them")]
    fn print(&self, verdict: &Verdict) {
        println!("{}", self.name);
        println!("  account: {}", verdict.audit);
        println!("  back in the room: {}", verdict.back);
        println!("  errors answered: {:?}; connections closed, by code: {:?}", verdict.errors, verdict.closes);
        if !verdict.turned_away.is_empty() {
            println!("  turned away, by status: {:?}", verdict.turned_away);
        }
        if !verdict.given_up.is_empty() {
            println!("  requests given up: {:?}", verdict.given_up);
        }
        self.figures.iter().for_each(|figure| println!("  {figure}"));
        println!("  longest gap of each flow of media: {}", verdict.gaps);
    }
}
