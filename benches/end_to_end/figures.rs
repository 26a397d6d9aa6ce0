//! Figures of many runs: least, median and greatest, and the ratios of those that ran in turn.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// What one run of one contender gave: a name and a number each.
pub type Figures = Vec<(&'static str, f64)>;

/// The contender that the others are divided by.
pub const BASE: &str = "base";

/// The base that writes a checkpoint in each transaction as well.
pub const BASE_CHECKPOINT: &str = "base, checkpoint";

/// The base that waits in `poll`, as a program does that thinks nothing of it.
pub const BASE_POLLING: &str = "base, polling";

/// Who only reads.
pub const READER: &str = "reader";

/// Who does the full work, and nothing alongside it.
pub const LEAST: &str = "least";

/// All that was measured.
#[derive(Default)]
pub struct Report {
    parts: Vec<Part>,
}

struct Part {
    name: String,
    /// Contenders in the order in which they took turns, each with its runs.
    contenders: Vec<(String, Vec<Figures>)>,
}

/// One line of the report.
struct Line {
    part: String,
    contender: String,
    figure: &'static str,
    values: Vec<f64>,
}

impl Report {
    /// Adds a run of a contender.
    pub fn add(&mut self, part: &str, contender: &str, figures: Figures) {
        let shown: Vec<String> = figures.iter().map(|(name, value)| format!("{name} {}", rounded(*value))).collect();
        eprintln!("{part:<20} {contender:<16} {}", shown.join(", "));
        if self.parts.last().is_none_or(|last| last.name != part) {
            self.parts.push(Part { name: part.to_owned(), contenders: Vec::new() });
        }
        let contenders = &mut self.parts.last_mut().expect("a part").contenders;
        match contenders.iter_mut().find(|(name, _)| name == contender) {
            Some((_, runs)) => runs.push(figures),
            None => contenders.push((contender.to_owned(), vec![figures])),
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["part", "contender", "figure", "min", "median", "max"]);
        for line in self.lines() {
            let [min, median, max] = spread(&line.values).map(rounded);
            table.add_row([line.part, line.contender, line.figure.to_owned(), min, median, max]);
        }
        for column in 3..6 {
            table.column_mut(column).expect("a column").set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let lines = self.lines().into_iter().map(|line| {
            let [min, median, max] = spread(&line.values);
            json!({
                "part": line.part, "contender": line.contender, "figure": line.figure,
                "min": min, "median": median, "max": max, "runs": line.values,
            })
        });
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        json!({ "cores": cores, "figures": lines.collect::<Vec<_>>() })
    }

    /// Each figure of each contender, and then the ratios of the first to each other and of the least to the base, run by run.
    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for Part { name, contenders } in &self.parts {
            for (contender, runs) in contenders {
                lines.extend(columns(runs).map(|(figure, values)| Line {
                    part: name.clone(),
                    contender: contender.clone(),
                    figure,
                    values,
                }));
            }
            let Some(first) = contenders.first() else { continue };
            let named = |wanted| contenders.iter().find(|(name, _)| name == wanted);
            let pairs = contenders.iter().skip(1).map(|other| (first, other)).chain(named(LEAST).zip(named(BASE)));
            for ((one, runs), (other, others)) in pairs {
                let theirs: Vec<_> = columns(others).collect();
                lines.extend(columns(runs).filter_map(|(figure, ours)| {
                    let (_, theirs) = theirs.iter().find(|(name, _)| *name == figure)?;
                    let values: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
                    // What nobody lost has no ratio.
                    values.iter().all(|value| value.is_finite()).then_some(())?;
                    Some(Line { part: name.clone(), contender: format!("{one} / {other}"), figure, values })
                }));
            }
        }
        lines
    }
}

/// Runs as columns.
fn columns(runs: &[Figures]) -> impl Iterator<Item = (&'static str, Vec<f64>)> {
    let names = runs.first().into_iter().flatten().map(|(name, _)| *name);
    names.enumerate().map(|(index, name)| (name, runs.iter().map(|run| run[index].1).collect()))
}

fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [sorted[0], percentile(&sorted, 50.0), sorted[sorted.len() - 1]]
}

/// The smallest value that `percent` percent do not exceed; `sorted` is not empty.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// p50, p99 and p99.9 of latencies in milliseconds.
pub fn latencies(mut values: Vec<f64>) -> [(&'static str, f64); 3] {
    values.sort_by(f64::total_cmp);
    [
        ("p50 ms", percentile(&values, 50.0)),
        ("p99 ms", percentile(&values, 99.0)),
        ("p99.9 ms", percentile(&values, 99.9)),
    ]
}

fn rounded(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
