//! A run: every workload, in rounds that go over the targets in turn.

use anyhow::{Context as _, Result};

use crate::{
    endpoint::Target,
    process::Process,
    progress::Progress,
    round::{Load, connect, round},
    stats::Figures,
    workload::{self, Workload},
};

/// A target, and the processes whose use is read while it is under load.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) target: Target,
    pub(crate) processes: Vec<Process>,
    /// A peer whose failures are part of what is compared: they are counted, and do not end the run.
    pub(crate) lenient: bool,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) rounds: usize,
    pub(crate) load: Load,
    /// Whether what was written stays.
    pub(crate) keep: bool,
}

/// What one workload showed: the rounds of each target, by its name.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) workload: String,
    pub(crate) clients: usize,
    pub(crate) targets: Vec<(String, Vec<Figures>)>,
}

impl Outcome {
    /// The rounds of a target; none where there is no such target.
    pub(crate) fn rounds(&self, target: &str) -> &[Figures] {
        let found = self.targets.iter().find(|(name, _)| name == target);
        found.map_or(&[], |(_, rounds)| rounds)
    }
}

/// Runs everything.
///
/// # Errors
/// At the first request that fails and the first answer that is wrong.
pub(crate) async fn run(plan: &Plan) -> Result<Vec<Outcome>> {
    let rounds = plan.workloads.len() * plan.rounds * plan.subjects.len();
    let mut progress = Progress::new(rounds);
    let mut outcomes = Vec::new();
    for &workload in &plan.workloads {
        outcomes.push(interleaved(plan, workload, &mut progress).await?);
    }
    progress.finish();
    if !plan.keep {
        for subject in &plan.subjects {
            let connections = connect(&subject.target, 1).await?;
            let namespaces = plan.load.shape.keyspace.namespaces;
            for connection in &connections {
                workload::clear(namespaces, connection)
                    .await
                    .context("taking away what was written")?;
            }
        }
    }
    Ok(outcomes)
}

async fn interleaved(plan: &Plan, workload: Workload, progress: &mut Progress) -> Result<Outcome> {
    let names = plan
        .subjects
        .iter()
        .map(|subject| subject.target.name.clone());
    let mut targets: Vec<_> = names.map(|name| (name, Vec::new())).collect();
    for number in 1..=plan.rounds {
        for (subject, (name, rounds)) in plan.subjects.iter().zip(&mut targets) {
            progress.next(&format!("{} {name}, round {number}", workload.name()));
            let figures = round(subject, workload, &plan.load)
                .await
                .with_context(|| format!("{name}: {}, round {number}", workload.name()))?;
            rounds.push(figures);
        }
    }
    Ok(Outcome {
        workload: workload.name(),
        clients: plan.load.clients,
        targets,
    })
}
