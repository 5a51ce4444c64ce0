//! The step of classes: whose class changes in its cell, within the cell's tokens.

use compact_str::format_compact;
use hashbrown::HashMap;

use crate::class::{Judgement, Verdict};
use crate::decide::Planning;
use crate::model::{Claim, Class, Name, Signal, Tenant};
use crate::plan::{Switch, WatchChange};
use crate::report::{Decision, Refusal, Rule, counted};
use crate::room::Binding;
use crate::state::{Restless, State};

/// A change of class that is due.
struct Due<'a> {
    name: &'a Name,
    restless: &'a Restless,
    to: Class,
    signal: Option<Signal>,
    is_emergency: bool,
}

/// Decides about every tenant whose class may change.
pub(crate) fn run(planning: &mut Planning<'_>) {
    let state = planning.draft.state;
    let mut due = Vec::new();
    for (name, restless) in state.restless() {
        let Judgement { verdict, watch, .. } = restless.judgement;
        if restless.is_other_band {
            planning.plan.watches.push(WatchChange {
                tenant: name.clone(),
                band: watch.band,
                since: watch.since,
            });
        }
        if restless.is_unknown {
            let detail = "its override names no class; its signals decide instead".to_owned();
            refuse(planning, name, "pinned", Rule::UnknownClass, detail);
        }
        match verdict {
            Verdict::Keep => {}
            Verdict::Frozen(why) => {
                let class = state.tenant_of(restless).class;
                let detail = format!("nothing usable is known of it ({why:?}); it keeps class {class}");
                refuse(planning, name, "another class", Rule::Frozen, detail);
            }
            Verdict::Later { to, signal, due } => {
                let wait = due.saturating_sub(state.now);
                let changed = state.tenant_of(restless).changed;
                let is_cooling = due == changed.saturating_add(state.policy.cooldown_seconds);
                let rule = if is_cooling { Rule::Cooldown } else { Rule::Delay };
                let detail = format!("{} asks for it; due in {wait} s", asker(signal));
                refuse(planning, name, &format_compact!("class {to}"), rule, detail);
            }
            Verdict::Now {
                to,
                signal,
                is_emergency,
            } => due.push(Due {
                name,
                restless,
                to,
                signal,
                is_emergency,
            }),
        }
    }
    // By name among those who wait as long.
    due.sort_by_key(|due| (!due.is_emergency, due.restless.judgement.watch.since));
    let mut tokens = HashMap::new();
    for due in due {
        switch(planning, &mut tokens, &due);
    }
    let waiting = state.slots_by_name().filter_map(|(slot, standing)| {
        let Tokens { spent, waiting } = tokens.remove(&slot)?;
        (!waiting.is_empty()).then_some((standing, spent, waiting))
    });
    for (standing, spent, tenants) in waiting {
        let subject = format_compact!("cell {}", standing.name);
        let changes = counted(u32::try_from(tenants.len()).unwrap_or(u32::MAX), "more change");
        let wanted = format_compact!("given {changes} of class");
        let detail = format!("it has had {} in its window", counted(spent, "change"));
        planning.refused(Refusal {
            tenants,
            ..Refusal::new(subject, wanted, Rule::SwitchTokens, detail)
        });
    }
}

/// A cell's switches in its window, and who waits for it to move on.
struct Tokens {
    spent: u32,
    waiting: Vec<Name>,
}

impl Tokens {
    fn of(state: &State, slot: u32) -> Self {
        let window = state.now.saturating_sub(state.policy.switch_window_seconds);
        let switches = &state.standing(slot).cell.switches;
        let spent = switches.iter().filter(|at| **at > window).count();
        Self {
            spent: u32::try_from(spent).unwrap_or(u32::MAX),
            waiting: Vec::new(),
        }
    }
}

fn switch(planning: &mut Planning<'_>, tokens: &mut HashMap<u32, Tokens>, due: &Due<'_>) {
    let state = planning.draft.state;
    let Due { restless, to, .. } = *due;
    let Some(slot) = restless.slot else {
        return;
    };
    let is_new = state.now.saturating_sub(restless.asked) < state.policy.new_seconds;
    let needs_token = !(due.is_emergency || is_new);
    let tokens = tokens.entry(slot).or_insert_with(|| Tokens::of(state, slot));
    if needs_token && tokens.spent >= state.policy.switch_tokens {
        tokens.waiting.push(due.name.clone());
        return;
    }
    let tenant = state.tenant_of(restless);
    let Some(here) = tenant.claims().next() else {
        return;
    };
    let changed = Tenant {
        class: to,
        demand: state.demand_after(tenant, to),
        ..tenant.clone()
    };
    let after = Claim {
        demand: &changed.demand,
        class: to,
        ..here
    };
    planning.draft.give(slot, tenant, here);
    planning.draft.take(slot, tenant, after);
    let fit = planning.draft.held(slot).room.fill(&state.policy);
    let binding = planning.draft.held(slot).room.binding(&fit);
    if to > tenant.class && !fit.is_room() {
        planning.draft.give(slot, tenant, after);
        planning.draft.take(slot, tenant, here);
        planning.cramped.push(changed);
        return;
    }
    tokens.spent += u32::from(needs_token);
    decide(planning, due, tenant, slot, binding);
    planning.plan.switches.push(Switch {
        tenant: tenant.name.clone(),
        cell: planning.name(slot),
        from: tenant.class,
        to,
        took_token: needs_token,
    });
}

fn decide(planning: &mut Planning<'_>, due: &Due<'_>, tenant: &Tenant, slot: u32, binding: Binding) {
    let to = due.to;
    let cell = planning.name(slot);
    let is_up = to > tenant.class;
    let why = if due.is_emergency { ", an emergency" } else { "" };
    planning.decided(Decision {
        subject: format!("tenant {}", tenant.name),
        action: format!("class {} becomes {to} in cell {cell}", tenant.class),
        reason: format!("{} asks for it{why}", asker(due.signal)),
        binding: Some(binding),
        score: None,
        runner_up: None,
        would_change: match is_up {
            _ if due.signal.is_none() => "another pin, or class auto".to_owned(),
            true => "the signal falls below the share of its class, or a pin".to_owned(),
            false => "the signal rises above the share of the lower class, or a pin".to_owned(),
        },
    });
}

fn asker(signal: Option<Signal>) -> String {
    match signal {
        Some(signal) => format!("signal {}", signal.name()),
        None => "its pin".to_owned(),
    }
}

fn refuse(planning: &mut Planning<'_>, tenant: &Name, wanted: &str, rule: Rule, detail: String) {
    let subject = format_compact!("tenant {tenant}");
    planning.refused(Refusal::new(subject, wanted, rule, detail));
}
