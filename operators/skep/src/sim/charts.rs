//! Charts of the first seed's days, as SVG: utilisation, cells, refused tenants, cost.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::{
    BLACK, ChartBuilder, Color, IntoDrawingArea, LineSeries, PathElement, RGBColor, SVGBackend,
    SeriesLabelPosition, WHITE,
};
use skep_planner::sim::{Day, Outcome, Scenario, Strategy};

/// Colours that people with any colour vision tell apart (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 5] = [
    RGBColor(86, 180, 233),
    RGBColor(0, 114, 178),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(120, 120, 120),
];
const SIZE: (u32, u32) = (960, 480);

struct Chart {
    file: &'static str,
    title: &'static str,
    unit: &'static str,
    value: fn(&[Day], usize) -> f64,
}

const CHARTS: [Chart; 4] = [
    Chart {
        file: "utilisation.svg",
        title: "Utilisation of cells with one zone lost",
        unit: "%",
        value: |days, day| days[day].utilisation * 100.0,
    },
    Chart {
        file: "cells.svg",
        title: "Cells",
        unit: "cells",
        value: |days, day| f64::from(days[day].cells),
    },
    Chart {
        file: "refused.svg",
        title: "Tenants refused so far",
        unit: "tenants",
        value: |days, day| days[..=day].iter().map(|day| f64::from(day.refused)).sum(),
    },
    Chart {
        file: "cost.svg",
        title: "Cost so far",
        unit: "thousand $",
        value: |days, day| days[..=day].iter().map(|day| day.cost / 1000.0).sum(),
    },
];

/// Writes the charts.
pub fn write(out: &Path, scenario: &Scenario, outcomes: &[Outcome]) -> Result<()> {
    let first: Vec<&Outcome> = outcomes.iter().take(Strategy::ALL.len()).collect();
    for chart in CHARTS {
        let path = out.join(chart.file);
        draw(&path, &chart, scenario, &first)
            .map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))?;
    }
    Ok(())
}

fn draw(
    path: &Path,
    chart: &Chart,
    scenario: &Scenario,
    outcomes: &[&Outcome],
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let days = |outcome: &Outcome| -> Vec<(u32, f64)> {
        let values = (0..outcome.days.len()).map(|day| (chart.value)(&outcome.days, day));
        (0..).zip(values).collect()
    };
    let series: Vec<Vec<(u32, f64)>> = outcomes.iter().map(|outcome| days(outcome)).collect();
    let most = series
        .iter()
        .flatten()
        .map(|(_, value)| *value)
        .fold(1.0, f64::max);
    let mut context = ChartBuilder::on(&area)
        .caption(chart.title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0..scenario.days, 0.0..most * 1.05)?;
    context
        .configure_mesh()
        .x_desc("day")
        .y_desc(chart.unit)
        .light_line_style(WHITE)
        .draw()?;
    for ((outcome, points), colour) in outcomes.iter().zip(series).zip(COLOURS) {
        context
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(outcome.strategy.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    context
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
