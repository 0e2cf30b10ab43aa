//! Line charts as inline SVG. Colours come from the page's style, so that they follow its theme.

mod axis;

use std::fmt::Write;

pub(crate) use axis::Axis;

/// The drawing's size in its own units; the page scales it to its width.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;

/// Room for the axes.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// A line chart.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    /// The caption, for those who see it and those who hear it.
    pub(crate) title: &'a str,
    /// From left to right.
    pub(crate) x: Axis,
    /// From bottom to top.
    pub(crate) y: Axis,
    /// The lines.
    pub(crate) lines: Vec<Line<'a>>,
    /// The part of `x` that is shaded, and why.
    pub(crate) shade: Option<(f64, f64, &'a str)>,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// The class that colours it: `a`, `b`, `c` or `d`.
    pub(crate) class: &'a str,
    /// Its points, ascending in `x`.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Chart<'_> {
    /// Draws the chart with its caption and its legend.
    pub(crate) fn draw(&self) -> String {
        let mut svg = String::new();
        self.write(&mut svg).expect("a String takes any text");
        svg
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        write!(
            out,
            "<figure><figcaption>{}<span class=\"legend\">",
            escape(self.title)
        )?;
        for line in &self.lines {
            write!(
                out,
                "<span class=\"key {}\">{}</span>",
                line.class,
                escape(line.name)
            )?;
        }
        write!(
            out,
            "</span></figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(self.title)
        )?;
        self.shade(out)?;
        self.axes(out)?;
        for line in &self.lines {
            self.line(out, line)?;
        }
        out.push_str("</svg></figure>\n");
        Ok(())
    }

    fn shade(&self, out: &mut String) -> std::fmt::Result {
        let Some((from, to, label)) = self.shade else {
            return Ok(());
        };
        let (from, to) = (self.across(from), self.across(to));
        if to - from < 1.0 {
            return Ok(());
        }
        write!(
            out,
            "<rect class=\"shade\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <text class=\"hint\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            to - from,
            HEIGHT - TOP - BOTTOM,
            from + 5.0,
            TOP + 13.0,
            escape(label)
        )
    }

    fn axes(&self, out: &mut String) -> std::fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in self.y.ticks() {
            let y = self.up(value);
            write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                LEFT - 7.0,
                y + 4.0
            )?;
        }
        for (value, label) in self.x.ticks() {
            let x = self.across(value);
            write!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
                 <text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
                bottom + 17.0
            )?;
        }
        write!(
            out,
            "<text class=\"tick\" text-anchor=\"end\" x=\"{right}\" y=\"{:.1}\">{}</text>\
             <text class=\"tick\" transform=\"translate(13 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 6.0,
            escape(self.x.label()),
            f64::midpoint(TOP, bottom),
            escape(self.y.label())
        )
    }

    fn line(&self, out: &mut String, line: &Line<'_>) -> std::fmt::Result {
        write!(out, "<g class=\"{}\"><polyline points=\"", line.class)?;
        for (x, y) in &line.points {
            write!(out, "{:.1},{:.1} ", self.across(*x), self.up(*y))?;
        }
        out.push_str("\"/>");
        // A line of one point has no length; a dot shows it.
        let class = if line.points.len() == 1 {
            "dot lone"
        } else {
            "dot"
        };
        for (x, y) in &line.points {
            write!(
                out,
                "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{}: {}, {}</title></circle>",
                self.across(*x),
                self.up(*y),
                escape(line.name),
                self.x.value(*x),
                self.y.value(*y)
            )?;
        }
        out.push_str("</g>");
        Ok(())
    }

    fn across(&self, x: f64) -> f64 {
        LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT)
    }

    fn up(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(y) * (HEIGHT - TOP - BOTTOM)
    }
}

/// Returns `text` as it may stand in HTML, in attributes too.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_inside_the_frame_and_text_is_escaped() {
        let chart = Chart {
            title: "<b> & 'c'",
            x: Axis::seconds(10.0),
            y: Axis::millis(0.5, 900.0),
            lines: vec![Line {
                name: "p50",
                class: "a",
                points: vec![(0.0, 0.5), (5.0, 20.0), (10.0, 900.0), (11.0, 5000.0)],
            }],
            shade: Some((0.0, 2.0, "warm-up")),
        };
        let svg = chart.draw();
        assert!(svg.contains("&lt;b&gt; &amp; &#39;c&#39;") && !svg.contains("<b>"));
        for (x, y) in &chart.lines[0].points {
            assert!((LEFT..=WIDTH - RIGHT).contains(&chart.across(*x)));
            assert!((TOP..=HEIGHT - BOTTOM).contains(&chart.up(*y)));
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
