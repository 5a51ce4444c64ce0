//! The step of classes: whose class changes in its cell, within the cell's tokens.

use compact_str::format_compact;
use hashbrown::HashMap;

use crate::class::{Judgement, Verdict};
use crate::decide::Planning;
use crate::model::{Choice, Claim, Class, Seconds, Signal, Tenant};
use crate::plan::{Switch, WatchChange};
use crate::report::{Decision, Refusal, Rule};
use crate::room::Binding;

/// A change of class that is due.
struct Due<'a> {
    tenant: &'a Tenant,
    to: Class,
    signal: Option<Signal>,
    is_emergency: bool,
    since: Seconds,
}

/// Judges every tenant whose class may change.
pub(crate) fn run(planning: &mut Planning<'_>) {
    let state = planning.draft.state;
    let mut due = Vec::new();
    for (tenant, Judgement { verdict, watch }) in state.restless() {
        if watch != tenant.watch {
            planning.plan.watches.push(WatchChange {
                tenant: tenant.name.clone(),
                band: watch.band,
                since: watch.since,
            });
        }
        if tenant.choice == Choice::Unknown {
            let detail = "its override names no class; its signals decide instead".to_owned();
            refuse(planning, tenant, "pinned", Rule::UnknownClass, detail);
        }
        match verdict {
            Verdict::Keep => {}
            Verdict::Frozen(why) => {
                let detail = format!(
                    "nothing usable is known of it ({why:?}); it keeps class {}",
                    tenant.class
                );
                refuse(planning, tenant, "another class", Rule::Frozen, detail);
            }
            Verdict::Later { to, signal, due } => {
                let wait = due.saturating_sub(state.now);
                let is_cooling = due == tenant.changed.saturating_add(state.policy.cooldown_seconds);
                let rule = if is_cooling { Rule::Cooldown } else { Rule::Delay };
                let detail = format!("{} asks for it; due in {wait} s", asker(signal));
                refuse(planning, tenant, &format_compact!("class {to}"), rule, detail);
            }
            Verdict::Now {
                to,
                signal,
                is_emergency,
            } => due.push(Due {
                tenant,
                to,
                signal,
                is_emergency,
                since: watch.since,
            }),
        }
    }
    due.sort_by(|one, other| {
        let key = |due: &Due<'_>| (!due.is_emergency, due.since);
        key(one)
            .cmp(&key(other))
            .then_with(|| one.tenant.name.cmp(&other.tenant.name))
    });
    let mut taken = HashMap::new();
    for due in due {
        switch(planning, &mut taken, &due);
    }
}

fn switch(planning: &mut Planning<'_>, taken: &mut HashMap<u32, u32>, due: &Due<'_>) {
    let state = planning.draft.state;
    let Due { tenant, to, .. } = *due;
    let Some(here) = tenant.claims().next() else {
        return;
    };
    let Some(slot) = state.slot(&here.spot.cell) else {
        return;
    };
    let is_new = state.now.saturating_sub(tenant.asked) < state.policy.new_seconds;
    let needs_token = !(due.is_emergency || is_new);
    let window = state.now.saturating_sub(state.policy.switch_window_seconds);
    let switches = &state.standing(slot).cell.switches;
    let spent = switches.iter().filter(|at| **at > window).count();
    let spent = u32::try_from(spent).unwrap_or(u32::MAX) + taken.get(&slot).copied().unwrap_or(0);
    if needs_token && spent >= state.policy.switch_tokens {
        let cell = planning.name(slot);
        let detail = format!("cell {cell} has had {spent} switches in its window");
        refuse(
            planning,
            tenant,
            &format_compact!("class {to}"),
            Rule::SwitchTokens,
            detail,
        );
        return;
    }
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
    *taken.entry(slot).or_insert(0) += u32::from(needs_token);
    decide(planning, due, slot, binding);
    planning.plan.switches.push(Switch {
        tenant: tenant.name.clone(),
        cell: planning.name(slot),
        from: tenant.class,
        to,
        took_token: needs_token,
    });
}

fn decide(planning: &mut Planning<'_>, due: &Due<'_>, slot: u32, binding: Binding) {
    let Due { tenant, to, .. } = *due;
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

fn refuse(planning: &mut Planning<'_>, tenant: &Tenant, wanted: &str, rule: Rule, detail: String) {
    let subject = format_compact!("tenant {}", tenant.name);
    planning.refused(Refusal::new(subject, wanted, rule, detail));
}
