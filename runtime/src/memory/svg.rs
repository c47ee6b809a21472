//! A picture of the plan: time runs right, addresses run up.

use std::fmt::Write;

use super::{Plan, live_bytes};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;

impl Plan {
    /// The arena over the steps as SVG: one box a buffer (hover for what it is), the live bytes
    /// as a line, the lower bound dashed.
    #[must_use]
    pub fn svg(&self, title: &str) -> String {
        let steps = self.nodes.len().max(1) as f64;
        let top = self.arena_bytes.max(1) as f64;
        let x = |step: usize| LEFT + WIDTH * step as f64 / steps;
        let y = |bytes: usize| TOP + HEIGHT * (1.0 - bytes as f64 / top);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
             fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
            LEFT + WIDTH + 20.0,
            TOP + HEIGHT + 50.0,
            escape(title),
        );
        for (i, b) in self.buffers.iter().enumerate() {
            let (x0, x1) = (x(b.interval.first), x(b.interval.last + 1));
            let (y0, y1) = (y(b.offset + b.interval.bytes), y(b.offset));
            let hue = (i * 47) % 360;
            let (dashes, again) =
                if b.again { (" stroke-dasharray=\"2 1\"", "made again: ") } else { ("", "") };
            let _ = writeln!(
                out,
                "<rect x=\"{x0:.1}\" y=\"{y0:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                 fill=\"hsl({hue},55%,72%)\" stroke=\"hsl({hue},45%,45%)\" stroke-width=\"0.3\"{dashes}>\
                 <title>{again}{}: {}, steps {}-{}</title></rect>",
                x1 - x0,
                y1 - y0,
                escape(&b.label),
                human_bytes(b.interval.bytes),
                b.interval.first,
                b.interval.last,
            );
        }
        self.draw_live_line(&mut out, &x, &y);
        self.draw_axes(&mut out, &y);
        out.push_str("</svg>\n");
        out
    }

    /// The largest buffers alive at the peak: bytes, what they hold, the first and the last step.
    #[must_use]
    pub fn largest(&self, most: usize) -> Vec<(usize, String, [usize; 2])> {
        let intervals: Vec<_> = self.buffers.iter().map(|b| b.interval).collect();
        let live = live_bytes(&intervals);
        let peak = (0..live.len()).max_by_key(|&step| live[step]).unwrap_or(0);
        let alive = |b: &&super::Buffer| b.interval.first <= peak && peak <= b.interval.last;
        let mut largest: Vec<_> = self
            .buffers
            .iter()
            .filter(alive)
            .map(|b| (b.interval.bytes, escape(&b.label), [b.interval.first, b.interval.last]))
            .collect();
        largest.sort_by_key(|&(bytes, _, steps)| (std::cmp::Reverse(bytes), steps));
        largest.truncate(most);
        largest
    }

    fn draw_live_line(
        &self,
        out: &mut String,
        x: &impl Fn(usize) -> f64,
        y: &impl Fn(usize) -> f64,
    ) {
        let intervals: Vec<_> = self.buffers.iter().map(|b| b.interval).collect();
        let points: Vec<String> = live_bytes(&intervals)
            .into_iter()
            .enumerate()
            .map(|(step, live)| format!("{:.1},{:.1}", x(step), y(live)))
            .collect();
        let bound = y(self.arena_bound);
        let _ = write!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#222\" stroke-width=\"1.2\"/>\n\
             <line x1=\"{LEFT}\" x2=\"{}\" y1=\"{bound:.1}\" y2=\"{bound:.1}\" stroke=\"#c00\" \
             stroke-dasharray=\"6 4\"/>\n",
            points.join(" "),
            LEFT + WIDTH,
        );
    }

    fn draw_axes(&self, out: &mut String, y: &impl Fn(usize) -> f64) {
        for quarter in 0..=4 {
            let bytes = self.arena_bytes * quarter / 4;
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y(bytes) + 4.0,
                human_bytes(bytes)
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{}\">{} steps; arena {}, lower bound {} (red), beside it {} of \
             parameters, state and inputs</text>",
            TOP + HEIGHT + 30.0,
            self.nodes.len(),
            human_bytes(self.arena_bytes),
            human_bytes(self.arena_bound),
            human_bytes(self.owned_bytes),
        );
    }
}

/// A size as people read it.
fn human_bytes(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// Text as SVG and HTML take it.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
