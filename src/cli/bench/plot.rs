//! The figures as a picture: one line for each row of the table, its throughput as a bar with the ceiling as a
//! mark on it, its latencies from p50 to p99.9 on a logarithmic scale. Plain SVG, no scripts, no fonts of its own.

use std::fmt::Write as _;

use super::{
    measure::Form,
    report::{CaseView, Report, RowView, number},
};

const WIDTH: f64 = 1000.0;
const MARGIN: f64 = 24.0;
/// From one row to the next.
const STEP: f64 = 20.0;
const BAR: f64 = 13.0;
/// Where the names end, and what is right of them begins.
const BARS_FROM: f64 = 140.0;
const BARS_TO: f64 = 520.0;
const LATENCY_FROM: f64 = 640.0;
const LATENCY_TO: f64 = WIDTH - MARGIN;
/// From 1 us to 10 s.
const DECADES: i32 = 7;

const STYLE: &str = "text { font-family: sans-serif; font-size: 12px; fill: #222 } .title { font-size: 16px; \
                     font-weight: bold } .case { font-size: 14px; font-weight: bold } .small { font-size: 10px; \
                     fill: #666 } .end { text-anchor: end } .middle { text-anchor: middle } .grid { stroke: #e2e2e2 } \
                     .ceiling { stroke: #222; stroke-width: 2 }";

/// Draws a run.
pub(super) fn svg(report: &Report) -> String {
    let mut body = String::new();
    let mut y = MARGIN + 16.0;
    text(&mut body, MARGIN, y, "title", &format!("strongroom bench {}", report.version));
    y += 18.0;
    let about = format!("{}, {} core(s), {}", report.library.trim(), report.machine.cores, report.machine.processor);
    text(&mut body, MARGIN, y, "small", &about);
    y += 14.0;
    let legend =
        "bars: operations per second; mark: composite ceiling C. Right: latency, p50 (dot) to p99 (thick) to p99.9";
    text(&mut body, MARGIN, y, "small", legend);
    for case in &report.cases {
        y = draw(&mut body, case, y + 34.0);
    }
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} \
         {height}\">\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// One case from `top` on; where it ends.
fn draw(body: &mut String, case: &CaseView, top: f64) -> f64 {
    text(body, MARGIN, top, "case", &format!("{} {} ({} bytes)", case.name(), case.operation, case.input_bytes));
    let first = top + 12.0;
    let bottom = first + STEP * case.rows.len() as f64;
    grid(body, first, bottom);
    let most = case.rows.iter().map(|row| row.ops_per_second.max(row.ceiling.unwrap_or_default())).fold(0.0, f64::max);
    for (at, row) in case.rows.iter().enumerate() {
        let y = first + STEP * at as f64;
        throughput(body, row, y, most);
        latency(body, row, y + STEP / 2.0);
    }
    bottom + 12.0
}

/// The decades of the latencies, from `top` to `bottom`.
fn grid(body: &mut String, top: f64, bottom: f64) {
    for (decade, name) in ["1 us", "10", "100", "1 ms", "10", "100", "1 s", "10"].iter().enumerate() {
        let x = LATENCY_FROM + (LATENCY_TO - LATENCY_FROM) * decade as f64 / f64::from(DECADES);
        push(
            body,
            format_args!("<line class=\"grid\" x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>"),
        );
        text(body, x, bottom + 11.0, "small middle", name);
    }
}

fn throughput(body: &mut String, row: &RowView, y: f64, most: f64) {
    let what = if row.form == Form::Raw { "raw, processes:" } else { row.form.name() };
    text(body, BARS_FROM - 8.0, y + BAR, "end", &format!("{what} {}", row.clients));
    let scale = |value: f64| if most > 0.0 { (BARS_TO - BARS_FROM) * value / most } else { 0.0 };
    let (wide, colour) = (scale(row.ops_per_second), colour(row.form));
    let bar = y + (STEP - BAR) / 2.0;
    push(
        body,
        format_args!("<rect x=\"{BARS_FROM}\" y=\"{bar:.1}\" width=\"{wide:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"),
    );
    let mut end = BARS_FROM + wide;
    if let Some(ceiling) = row.ceiling {
        let x = BARS_FROM + scale(ceiling);
        let (from, to) = (y + 1.0, y + STEP - 1.0);
        push(
            body,
            format_args!("<line class=\"ceiling\" x1=\"{x:.1}\" y1=\"{from:.1}\" x2=\"{x:.1}\" y2=\"{to:.1}\"/>"),
        );
        end = end.max(x);
    }
    let of = row.ceiling.zip(row.of_ceiling);
    let of = of.map(|(ceiling, of)| format!(" of {} ({of:.2} C)", number(ceiling))).unwrap_or_default();
    text(body, end + 6.0, y + BAR, "small", &format!("{}/s{of}", number(row.ops_per_second)));
}

fn latency(body: &mut String, row: &RowView, y: f64) {
    let x = |us: f64| {
        let share = (us.max(1.0).log10() / f64::from(DECADES)).min(1.0);
        LATENCY_FROM + (LATENCY_TO - LATENCY_FROM) * share
    };
    let (p50, p99, p999, colour) = (x(row.p50_us), x(row.p99_us), x(row.p999_us), colour(row.form));
    for (from, to, wide) in [(p50, p99, 5), (p99, p999, 1)] {
        push(
            body,
            format_args!(
                "<line x1=\"{from:.1}\" y1=\"{y:.1}\" x2=\"{to:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-width=\"{wide}\"/>"
            ),
        );
    }
    push(body, format_args!("<circle cx=\"{p50:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"));
}

/// Colours that differ in brightness too.
const fn colour(form: Form) -> &'static str {
    match form {
        Form::Raw => "#8c8c8c",
        Form::Echo | Form::EchoBatch | Form::EchoStream => "#a6cee3",
        Form::Unary => "#1f5f99",
        Form::Batch => "#2e7d32",
        Form::Stream => "#b35900",
    }
}

fn text(body: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    push(body, format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"));
}

fn push(body: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(body, "{element}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::page::report;

    #[test]
    fn every_row_is_drawn_and_text_cannot_break_out() {
        let mut report = report();
        report.library = "A <script> & more".into();
        let drawn = svg(&report);
        let count = |what: &str| drawn.matches(what).count();
        assert_eq!((count("<rect x="), count("<circle "), count("class=\"ceiling\"")), (3, 3, 3));
        assert!(drawn.contains("A &lt;script&gt; &amp; more") && !drawn.contains("<script"));
        assert!(drawn.contains("42310/s of 53900 (0.79 C)"), "{drawn}");
        assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n") && !drawn.contains("NaN"));
    }

    #[test]
    fn a_row_of_zeros_is_drawn_too() {
        let mut report = report();
        report.cases[0].rows.iter_mut().for_each(|row| {
            (row.ops_per_second, row.p50_us, row.p99_us, row.p999_us, row.ceiling) = (0.0, 0.0, 0.0, 0.0, None);
        });
        assert!(!svg(&report).contains("NaN"));
    }
}
