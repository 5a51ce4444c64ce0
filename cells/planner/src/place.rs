//! Which cell takes a tenant: rules exclude, a score orders, chance chooses among the best two.
//!
//! What tenants with the same requirement or the same demand have in common is reckoned once for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::demand::Demand;
use crate::draft::Draft;
use crate::model::{Availability, Class, Name, Phase, Requirement, Tenant};
use crate::report::{Rule, RunnerUp};
use crate::room::{Binding, Fit};
use crate::state::{Standing, State};

/// Weights of the score.
const FULLNESS: f64 = -0.4;
const IMBALANCE: f64 = -0.2;
const COST: f64 = -0.2;
const SAME_ACCOUNT: f64 = -0.1;
const CLASS_RATIO: f64 = -0.1;

/// The cell that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chosen {
    pub slot: u32,
    pub zone: u8,
    pub score: f64,
    pub runner_up: Option<RunnerUp>,
    pub binding: Binding,
}

/// Why no cell was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refused {
    /// How many cells each rule excluded.
    pub cells: BTreeMap<Rule, u32>,
    /// The cell without room that is the nearest to having it, and what binds there.
    pub nearest: Option<(Name, Binding)>,
}

/// One cell's answer to one tenant, for `--explain`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The cell.
    pub cell: Name,
    /// The rule that excludes it, if one does.
    pub rule: Option<Rule>,
    /// What binds there with the tenant.
    pub binding: Option<Binding>,
    /// Its score where it is not excluded.
    pub score: Option<f64>,
}

/// A plan's search for cells.
pub(crate) struct Search {
    seed: u64,
    scale: Scale,
    suitable: HashMap<Arc<Requirement>, Suitable>,
    fits: HashMap<(Demand, Availability), Vec<(u32, Fit)>>,
}

#[derive(Default)]
struct Suitable {
    slots: Vec<u32>,
    excluded: BTreeMap<Rule, u32>,
}

impl Search {
    pub fn new(state: &State, seed: u64) -> Self {
        Self {
            seed,
            scale: Scale::of(state),
            suitable: HashMap::new(),
            fits: HashMap::new(),
        }
    }

    /// Chooses a cell; `but` is excluded without a rule.
    pub fn choose(
        &mut self,
        draft: &Draft<'_>,
        tenant: &Tenant,
        but: Option<u32>,
    ) -> Result<Chosen, Refused> {
        let suitable = self
            .suitable
            .entry_ref(&tenant.requirement)
            .or_insert_with(|| Suitable::of(draft.state, &tenant.requirement));
        let key = (tenant.demand, tenant.availability);
        let fits = self
            .fits
            .entry(key)
            .or_insert_with(|| vec![(u32::MAX, UNKNOWN); draft.state.slot_count()]);
        let account = draft.state.account(&tenant.account);
        let mut cells = suitable.excluded.clone();
        let mut best: [Option<(f64, u32, Fit)>; 2] = [None; 2];
        let mut nearest: Option<(u32, Fit)> = None;
        for slot in suitable.slots.iter().copied().filter(|slot| Some(*slot) != but) {
            let held = draft.held(slot);
            let owned = draft.owned(account, slot);
            let (version, fit) = &mut fits[slot as usize];
            if *version != draft.version(slot) {
                *fit = held
                    .room
                    .fit(&draft.state.policy, &tenant.demand, tenant.availability);
                *version = draft.version(slot);
            }
            if let Some(rule) = exclusion(draft, slot, tenant, fit, owned) {
                *cells.entry(rule).or_insert(0) += 1;
                if rule == Rule::Room && nearest.is_none_or(|(_, least)| fit.max < least.max) {
                    nearest = Some((slot, *fit));
                }
                continue;
            }
            let score = self.scale.score(draft, slot, tenant, fit, owned);
            let is_better = |than: &Option<(f64, u32, Fit)>| than.is_none_or(|(best, ..)| score > best);
            if is_better(&best[0]) {
                best = [Some((score, slot, *fit)), best[0]];
            } else if is_better(&best[1]) {
                best[1] = Some((score, slot, *fit));
            }
        }
        let name = |slot: u32| draft.state.standing(slot).name.clone();
        let (first, second) = match best {
            [Some(first), Some(second)] if self.is_second(tenant) => (second, Some(first)),
            [Some(first), second] => (first, second),
            [None, _] => {
                let nearest = nearest.map(|(slot, fit)| (name(slot), draft.held(slot).room.binding(&fit)));
                return Err(Refused { cells, nearest });
            }
        };
        let (score, slot, fit) = first;
        Ok(Chosen {
            slot,
            zone: fit.zone,
            score,
            runner_up: second.map(|(score, slot, _)| RunnerUp {
                cell: name(slot),
                score,
            }),
            binding: draft.held(slot).room.binding(&fit),
        })
    }

    /// What each cell answers, by name.
    pub fn explain(&self, draft: &Draft<'_>, tenant: &Tenant) -> Vec<Answer> {
        let answer = |(slot, standing): (u32, &Standing)| {
            let owned = draft.owned(draft.state.account(&tenant.account), slot);
            let room = &draft.held(slot).room;
            let fit = room.fit(&draft.state.policy, &tenant.demand, tenant.availability);
            let rule = unsuitable(draft.state, standing, &tenant.requirement)
                .or_else(|| exclusion(draft, slot, tenant, &fit, owned));
            let score = || self.scale.score(draft, slot, tenant, &fit, owned);
            Answer {
                cell: standing.name.clone(),
                rule,
                binding: (!standing.cell.zones.is_empty()).then(|| room.binding(&fit)),
                score: rule.is_none().then(score),
            }
        };
        draft.state.slots_by_name().map(answer).collect()
    }

    /// Whether chance takes the second best for a tenant: by seed and name alone.
    fn is_second(&self, tenant: &Tenant) -> bool {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(tenant.name.as_bytes());
        ChaCha8Rng::from_seed(hash.finalize().into()).random()
    }
}

const UNKNOWN: Fit = Fit {
    max: f64::INFINITY,
    deviation: 0.0,
    at: (crate::resource::Resource::Cpu, 0),
    zone: 0,
};

impl Suitable {
    /// The cells that a requirement allows, by name.
    fn of(state: &State, requirement: &Requirement) -> Self {
        let mut suitable = Self::default();
        for (slot, standing) in state.slots_by_name() {
            match unsuitable(state, standing, requirement) {
                Some(rule) => *suitable.excluded.entry(rule).or_insert(0) += 1,
                None => suitable.slots.push(slot),
            }
        }
        suitable
    }
}

/// The first rule by which a cell is nothing for a requirement, whatever the demand.
pub(crate) fn unsuitable(state: &State, standing: &Standing, requirement: &Requirement) -> Option<Rule> {
    let cell = &standing.cell;
    let Some(pool) = state.pools.get(&cell.pool) else {
        return Some(Rule::NoCell);
    };
    let residency = requirement.residency.as_ref();
    let overlaps = |own: &ipnet::IpNet| {
        let meets = |range: &ipnet::IpNet| range.contains(own) || own.contains(range);
        pool.ranges.iter().any(meets)
    };
    if pool.region != requirement.region {
        Some(Rule::Region)
    } else if residency.is_some() && pool.residency.as_ref() != residency {
        Some(Rule::Residency)
    } else if !requirement.compliance.is_subset(&pool.compliance) {
        Some(Rule::Compliance)
    } else if !cell.taints.is_subset(&requirement.tolerations) {
        Some(Rule::Taint)
    } else if requirement.ranges.iter().any(overlaps) {
        Some(Rule::RangeOverlap)
    } else {
        closed(state, standing)
    }
}

/// The rule by which a cell takes no tenant at all now.
pub(crate) fn closed(state: &State, standing: &Standing) -> Option<Rule> {
    let cell = &standing.cell;
    match cell.phase {
        Phase::Building => return Some(Rule::Building),
        Phase::Cordoned => return Some(Rule::Cordoned),
        Phase::Draining => return Some(Rule::Draining),
        Phase::Active => {}
    }
    if !cell.is_ready {
        return Some(Rule::NotReady);
    }
    unusable(state, standing)
}

/// The rule by which a cell's report cannot be used.
pub(crate) fn unusable(state: &State, standing: &Standing) -> Option<Rule> {
    let cell = &standing.cell;
    let age = state.now.saturating_sub(cell.reported);
    if cell.fault.is_some() {
        Some(Rule::BadReport)
    } else if age < -state.policy.report_seconds {
        Some(Rule::FutureReport)
    } else if age > state.policy.report_seconds {
        Some(Rule::StaleReport)
    } else {
        None
    }
}

fn exclusion(draft: &Draft<'_>, slot: u32, tenant: &Tenant, fit: &Fit, owned: u32) -> Option<Rule> {
    let room = &draft.held(slot).room;
    if tenant.availability == Availability::ZoneRedundant && !room.is_redundant() {
        Some(Rule::ZoneRedundancy)
    } else if owned >= draft.state.policy.account_limit {
        Some(Rule::AccountSpread)
    } else if fit.is_room() {
        None
    } else if room.unknown(&tenant.demand).is_some() {
        Some(Rule::IncompleteReport)
    } else {
        Some(Rule::Room)
    }
}

/// What scores are relative to.
struct Scale {
    /// The price of the dearest pool's cell.
    top_price: f64,
    /// Shares of the classes among all tenants, when the search began.
    ratios: [f64; 3],
}

impl Scale {
    fn of(state: &State) -> Self {
        let mut classes = [0_u32; 3];
        for (_, standing) in state.slots_by_name() {
            for (sum, count) in classes.iter_mut().zip(standing.held.classes) {
                *sum += count;
            }
        }
        let prices = state.pools.values().map(|pool| pool.price);
        Self {
            top_price: prices.fold(0.0, f64::max),
            ratios: ratios(classes),
        }
    }

    fn score(&self, draft: &Draft<'_>, slot: u32, tenant: &Tenant, fit: &Fit, owned: u32) -> f64 {
        let standing = draft.state.standing(slot);
        let price = draft
            .state
            .pools
            .get(&standing.cell.pool)
            .map_or(0.0, |pool| pool.price);
        let cost = if self.top_price > 0.0 {
            price / self.top_price
        } else {
            0.0
        };
        let account = f64::from(owned) / f64::from(draft.state.policy.account_limit.max(1));
        let class = tenant.class as usize;
        let mut classes = draft.held(slot).classes;
        classes[class] += 1;
        FULLNESS * fit.max
            + IMBALANCE * fit.deviation
            + COST * cost
            + SAME_ACCOUNT * account.min(1.0)
            + CLASS_RATIO * (ratios(classes)[class] - self.ratios[class]).abs()
    }
}

fn ratios(classes: [u32; 3]) -> [f64; 3] {
    let sum: u32 = classes.iter().sum();
    Class::ALL.map(|class| f64::from(classes[class as usize]) / f64::from(sum.max(1)))
}
