//! The page of `tenon bench --html`: one file, no network, readable on a phone and on paper.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use tenon_runtime::memory::escape;

use super::peaks::Peaks;
use super::row::Row;
use super::soak::Soak;
use super::{machine, roofline, time};
use crate::chart::{COLOURS, Chart};
use crate::measure::human;

/// What stands before the first picture.
const HEAD: &str = include_str!("head.html");

/// What sorts the table.
const TAIL: &str = include_str!("tail.html");

/// What a run found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Facts of the machine.
    pub(crate) machine: Value,
    /// Roofs of each target that has them.
    pub(crate) peaks: Vec<Peaks>,
    /// The figures.
    pub(crate) rows: Vec<Row>,
    /// Those of other libraries.
    pub(crate) peers: Vec<Row>,
    /// Speed over time.
    pub(crate) soak: Option<Soak>,
    /// Names of steps, and pictures of their memory.
    pub(crate) memory: Vec<(String, String)>,
}

impl Report {
    /// The page.
    pub(crate) fn html(&self) -> String {
        let mut out = HEAD.to_owned();
        self.facts(&mut out);
        let _ = write!(
            out,
            "<h2>Under the roof</h2>\n<p>Every kernel by its operations a byte. A roof is what the machine \
             reached just before when it did nothing else; a kernel whose operands stay in a cache may \
             stand above the roof of memory. Point at a dot, or reach it with the tab key, for its \
             name.</p>\n<figure>{}</figure>\n",
            roofline::svg(&self.peaks, &self.rows)
        );
        self.beside(&mut out);
        self.table(&mut out);
        if let Some(soak) = &self.soak {
            let points = |of: fn(&super::soak::Point) -> Option<f64>| {
                soak.points.iter().filter_map(|p| Some((p.seconds, of(p)?))).collect::<Vec<_>>()
            };
            let mut lines = vec![("speed, % of the fastest", points(|p| Some(100.0 * p.speed)))];
            let heat = points(|p| p.celsius);
            if !heat.is_empty() {
                lines.push(("hottest sensor, degrees C", heat));
            }
            let chart = Chart { title: "speed over time", x: "seconds", y: "", lines: &lines };
            let of = escape(&soak.of);
            let _ = write!(out, "<h2>Over time</h2>\n<p>{of}</p><figure>{}</figure>", chart.svg());
        }
        if !self.memory.is_empty() {
            out.push_str("<h2>Memory over a step</h2>\n");
        }
        for (name, picture) in &self.memory {
            let name = escape(name);
            let _ = write!(out, "<h3>{name}</h3>\n<figure>{picture}</figure>\n");
        }
        out.push_str(TAIL);
        out
    }

    /// The machine, in a list.
    fn facts(&self, out: &mut String) {
        out.push_str("<dl>\n");
        for (name, value) in self.machine.as_object().into_iter().flatten() {
            if value.is_null() {
                continue;
            }
            let text = machine::text(name, value);
            let label = name.trim_end_matches("_bytes").replace('_', " ");
            let (label, text) = (escape(&label), escape(&text));
            let _ =
                writeln!(out, "<div><dt>{label}</dt><dd data-fact=\"{name}\">{text}</dd></div>");
        }
        for peaks in &self.peaks {
            let Peaks { isa, threads, .. } = peaks;
            let _ = writeln!(
                out,
                "<div><dt>roofs of {isa}, threads: {threads}</dt><dd>{peaks}</dd></div>"
            );
        }
        let disturbed = self.rows.iter().filter(|row| row.disturbed.is_some()).count();
        if disturbed > 0 {
            let _ = writeln!(
                out,
                "<div class=\"warning\"><dt>disturbed</dt><dd>{disturbed} of {} rows, by other \
                 programs: their figures are too low</dd></div>",
                self.rows.len()
            );
        }
        out.push_str("</dl>\n");
    }

    /// Bars of rows that another library has, too.
    fn beside(&self, out: &mut String) {
        let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
        for row in &self.peers {
            let Row { kernel, shape, dtype, .. } = row;
            groups.entry(format!("{kernel} {shape} {dtype}")).or_default().push(row);
        }
        if groups.is_empty() {
            return;
        }
        out.push_str(
            "<h2>Beside other libraries</h2>\n<p>Longer bars are faster; one thread.</p>\n",
        );
        for (name, rows) in &groups {
            let rate = |row: &Row| 1.0 / row.median_s;
            let most = rows.iter().map(|row| rate(row)).fold(0.0, f64::max);
            let _ = writeln!(out, "<h3>{}</h3>\n<div class=\"bars\">", escape(name));
            for row in rows {
                let colour = if row.backend == "tenon" { COLOURS[0] } else { "#999" };
                let figure = if row.gflops > 0.0 {
                    format!("{:.1} GFLOP/s", row.gflops)
                } else if row.gbps > 0.0 {
                    format!("{:.1} GB/s", row.gbps)
                } else {
                    time(row.median_s)
                };
                let _ = writeln!(
                    out,
                    "<span>{}</span><span><i style=\"width:{:.1}%;background:{colour}\"></i></span>\
                     <span>{figure}</span>",
                    escape(&row.backend),
                    100.0 * rate(row) / most
                );
            }
            out.push_str("</div>\n");
        }
    }

    /// All figures.
    fn table(&self, out: &mut String) {
        out.push_str(
            "<h2>All figures</h2>\n<div class=\"wide\" role=\"region\" aria-label=\"all figures\" \
             tabindex=\"0\">\n<table id=\"figures\">\n<caption>Choose a heading to sort by \
             it.</caption>\n<thead><tr>",
        );
        let heads = [
            "kernel", "shape", "type", "level", "median", "spread", "GFLOP/s", "GB/s", "of roof",
            "items/s", "memory", "energy", "how",
        ];
        for head in heads {
            let _ = write!(out, "<th scope=\"col\"><button type=\"button\">{head}</button></th>");
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            let level = if row.backend == "cpu" { &row.isa } else { &row.backend };
            let class = if row.disturbed.is_some() { " class=\"disturbed\"" } else { "" };
            let _ = write!(out, "<tr{class}>");
            for text in [&row.kernel, &row.shape, &row.dtype, level] {
                let _ = write!(out, "<td>{}</td>", escape(text));
            }
            let mut number = |value: Option<f64>, text: String| {
                let value = value.map_or(String::new(), |v| v.to_string());
                let _ = write!(out, "<td data-v=\"{value}\">{text}</td>");
            };
            number(Some(row.median_s), time(row.median_s));
            number(Some(row.spread), format!("{:.0} %", 100.0 * row.spread));
            for rate in [row.gflops, row.gbps].map(|rate| Some(rate).filter(|&r| r > 0.0)) {
                number(rate, rate.map_or(String::new(), |r| format!("{r:.1}")));
            }
            let bar = row.fraction_of_peak.map_or(String::new(), |fraction| {
                let percent = 100.0 * fraction;
                format!(
                    "<span class=\"of\"><i style=\"width:{:.0}%\"></i></span>{percent:.0} %",
                    percent.min(100.0)
                )
            });
            number(row.fraction_of_peak, bar);
            number(row.per_second, row.per_second.map_or(String::new(), |r| format!("{r:.0}")));
            number(Some(row.allocated_bytes as f64), human(row.allocated_bytes));
            number(row.joules, row.joules.map_or(String::new(), |j| format!("{:.2} mJ", j * 1e3)));
            let _ = writeln!(out, "<td>{}</td></tr>", escape(&row.attrs));
        }
        out.push_str("</tbody></table></div>\n");
    }
}
