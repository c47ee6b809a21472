//! Line charts as SVG, for pages that people read.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 50.0;

/// Told apart by people who see colours differently, too (Okabe and Ito, 2008).
pub(crate) const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// A chart of lines over one axis. Both axes begin at 0.
pub(crate) struct Chart<'a> {
    /// What is shown, for those who do not see it.
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    /// Names of lines and their points.
    pub(crate) lines: &'a [(&'a str, Vec<(f64, f64)>)],
}

impl Chart<'_> {
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::MIN_POSITIVE, f64::max);
        let (right, top) = (round_up(most(|p| p.0)), round_up(most(|p| p.1)));
        let x = |v: f64| LEFT + (WIDTH - LEFT - RIGHT) * v / right;
        let y = |v: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * v / top;
        let mut out = format!(
            "<svg role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n",
            self.title
        );
        for quarter in 0..=4 {
            let (vx, vy) = (right * f64::from(quarter) / 4.0, top * f64::from(quarter) / 4.0);
            let _ = write!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{vy}</text>\n\
                 <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{vx}</text>\n",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y(vy) + 4.0,
                x(vx),
                HEIGHT - BOTTOM + 18.0,
                y = y(vy),
            );
        }
        for (i, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let at: Vec<String> =
                points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                at.join(" ")
            );
            for p in points {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"><title>{name}: \
                     {:.1}, {:.1}</title></circle>",
                    x(p.0),
                    y(p.1),
                    p.0,
                    p.1
                );
            }
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>",
                WIDTH - RIGHT - 8.0,
                TOP + 16.0 * (i + 1) as f64,
            );
        }
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n\
             </svg>\n",
            LEFT.midpoint(WIDTH - RIGHT),
            HEIGHT - 10.0,
            self.x,
            TOP.midpoint(HEIGHT - BOTTOM),
            self.y,
        );
        out
    }
}

/// The next number whose quarters read well.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    steps.map(|step| step * power).into_iter().find(|&end| end >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, end) in
            [(0.3, 0.32), (1.0, 1.0), (1.1, 1.2), (7.0, 8.0), (81.0, 100.0), (2048.0, 2400.0)]
        {
            assert!((round_up(value) - end).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn every_point_lies_on_the_chart() {
        let lines = [("a", vec![(0.0, 0.0), (3.0, 7.0)]), ("b", vec![(12.0, 0.5)])];
        let svg = Chart { title: "t", x: "x", y: "y", lines: &lines }.svg();
        let circles = svg.matches("<circle").count();
        assert_eq!((circles, svg.matches("<polyline").count()), (3, 2));
        for part in svg.split("cx=\"").skip(1) {
            let x: f64 = part.split('"').next().unwrap_or_default().parse().unwrap_or(f64::NAN);
            assert!((LEFT..=WIDTH - RIGHT).contains(&x), "{x}");
        }
    }
}
