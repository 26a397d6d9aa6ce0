//! A link as a QR code on the terminal, two modules a character.

use owo_colors::{Style, XtermColors};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// Modules of the quiet zone on each side (ISO/IEC 18004, section 9.1), which the renderer adds.
const QUIET: usize = 4;

/// Draws `url`, where `columns` is the width of the terminal, if there is one.
///
/// With colour black on white, whatever the terminal's own colours are. Without, light modules are the drawn ones:
/// right for light letters on a dark ground, which most terminals have; scanners read the opposite as well, mostly.
///
/// # Errors
///
/// Why there is none, as the end of a sentence.
pub(super) fn lines(url: &str, colour: bool, columns: Option<u16>) -> Result<Vec<String>, String> {
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        return Err("the provider's pay link is not a web address".to_owned());
    }
    // The least correction gives the smallest code; a screen has no stains.
    let code = QrCode::with_error_correction_level(url, EcLevel::L).map_err(|_| "the link is too long".to_owned())?;
    let width = code.width() + 2 * QUIET;
    if columns.is_some_and(|columns| usize::from(columns) < width) {
        return Err(format!("it needs a window of {width} columns"));
    }
    let mut renderer = code.render::<Dense1x2>();
    if !colour {
        renderer.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
    }
    let style = Style::new().color(XtermColors::from(16)).on_color(XtermColors::from(231));
    let drawn = renderer.module_dimensions(1, 1).build();
    Ok(drawn.lines().map(|line| crate::cli::output::paint(line, style, colour)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    const LINK: &str =
        "https://pay.example.com/?session=pst_5f0c1f1e-63d3-4c0b-9d0a-0e2b6c9a7f21&signature=sig_7b0f6a52";

    /// What a scanner reads from the screen, where `ink` is a lit half.
    fn scanned(lines: &[String], is_inked_dark: bool) -> String {
        let rows: Vec<Vec<(bool, bool)>> = lines
            .iter()
            .map(|line| {
                let halves = |character| match character {
                    '█' => (true, true),
                    '▀' => (true, false),
                    '▄' => (false, true),
                    _ => (false, false),
                };
                line.chars().map(halves).collect()
            })
            .collect();
        let scale = 4;
        let width = rows[0].len() * scale;
        let height = rows.len() * 2 * scale;
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            let (upper, lower) = rows[y / scale / 2][x / scale];
            let inked = if (y / scale) % 2 == 0 { upper } else { lower };
            if inked == is_inked_dark { 0 } else { 255 }
        });
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "a scanner sees one code:\n{}", lines.join("\n"));
        grids[0].decode().unwrap().1
    }

    #[test]
    fn a_scanner_reads_the_link() {
        assert_eq!(scanned(&lines(LINK, false, None).unwrap(), false), LINK);
        let coloured = lines(LINK, true, Some(200)).unwrap();
        let begin = "\u{1b}[38;5;16;48;5;231m";
        let end = "\u{1b}[0m";
        let plain: Vec<String> = coloured
            .iter()
            .map(|line| line.strip_prefix(begin).and_then(|line| line.strip_suffix(end)).unwrap().to_owned())
            .collect();
        assert_eq!(scanned(&plain, true), LINK);
    }

    #[test]
    fn what_does_not_fit_is_reported() {
        let width = u16::try_from(lines(LINK, false, None).unwrap()[0].chars().count()).unwrap();
        assert!(lines(LINK, false, Some(width)).is_ok());
        assert!(lines(LINK, false, Some(width - 1)).unwrap_err().contains(&format!("{width} columns")));
        assert!(lines(&format!("https://{}", "x".repeat(3_000)), false, None).unwrap_err().contains("too long"));
        assert!(lines("javascript:alert(1)", false, None).unwrap_err().contains("not a web address"));
    }
}
