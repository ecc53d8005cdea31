"""The page as people use it, in a real browser, over a real server and the shipped model."""

import re

import pytest

from tests.browser.conftest import PER_KIND
from tests.browser.moves import TILES, choose, hand_over, kinds, names, query_like, some_picture

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
expect = sync_api.expect

pytestmark = pytest.mark.browser


def test_an_upload_shows_ten_results_and_the_right_one_first(open_page, pictures):
    page = open_page()
    wanted = some_picture(pictures, kinds(pictures)[0])
    choose(page, query_like(wanted), "from my phone.jpg")
    expect(page.locator(TILES)).to_have_count(10)
    assert names(page)[0] == wanted.name
    scores = [float(text) for text in page.locator("[data-value]").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9
    expect(page.get_by_role("heading", level=1)).to_have_text("10 most similar images")
    expect(page.locator(".query .name")).to_have_text("from my phone.jpg")
    expect(page).to_have_title("from my phone.jpg · vitseek")
    assert re.search(r"/\?query=[\w-]+$", page.url)
    loaded = page.locator(f"{TILES} img").evaluate_all("all => Promise.all(all.map((image) => image.decode()))")
    assert len(loaded) == 10  # every picture could be decoded


def test_results_survive_a_reload_and_another_number(open_page, pictures):
    page = open_page()
    choose(page, query_like(some_picture(pictures, kinds(pictures)[1])))
    expect(page.locator(TILES)).to_have_count(10)
    before = names(page)
    page.reload()
    expect(page.locator(TILES)).to_have_count(10)
    assert names(page) == before
    page.get_by_label("Results").select_option("20")
    expect(page.locator(TILES)).to_have_count(20)
    assert names(page)[:10] == before
    assert "k=20" in page.url


def test_a_paste_searches(open_page, pictures):
    page = open_page()
    wanted = some_picture(pictures, kinds(pictures)[2])
    hand_over(page, "paste", query_like(wanted, "PNG"), "image.png")
    expect(page.locator(TILES)).to_have_count(10)
    assert names(page)[0] == wanted.name


def test_a_paste_into_the_filter_field_stays_text(open_page):
    page = open_page("?image=1")
    page.locator(".where input").focus()
    page.evaluate(
        """() => {
            const transfer = new DataTransfer();
            transfer.setData("text/plain", "label:x");
            document.activeElement.dispatchEvent(
                new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData: transfer }));
        }"""
    )
    expect(page.locator("[data-alert]")).to_have_count(0)


def test_a_drop_anywhere_searches_and_the_veil_goes(open_page, pictures):
    page = open_page("?image=1")  # also where results are shown already
    expect(page.locator(TILES)).to_have_count(10)
    wanted = some_picture(pictures, kinds(pictures)[3])
    hand_over(page, "drop", query_like(wanted, "PNG"))
    expect(page.locator(".query .name")).to_have_text("dropped.png")
    expect(page.locator(TILES).first.locator("img")).to_have_attribute("alt", wanted.name)
    expect(page.locator("#dropping")).to_be_hidden()


def test_a_click_searches_with_the_image_and_back_returns(open_page):
    page = open_page()
    page.locator(".wall .pick").nth(3).click()
    expect(page.locator(TILES)).to_have_count(10)
    first_url, first = page.url, names(page)
    assert re.search(r"/\?image=\d+$", first_url)
    clicked = first[2]
    page.locator(f"{TILES} .pick").nth(2).click()
    expect(page.locator(".query .name")).to_have_text(clicked)
    assert clicked not in names(page)
    page.go_back()
    expect(page).to_have_url(first_url)
    expect(page.locator(f"{TILES} img").first).to_have_attribute("alt", first[0])
    assert names(page) == first
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Find similar images")
    page.go_forward()
    expect(page.locator(TILES)).to_have_count(10)
    assert names(page) == first


def test_an_unreadable_file_shows_a_message_and_loses_nothing(open_page):
    page = open_page("?image=1", expect=(400,))
    before = names(page)
    choose(page, b"Dear diary, this is no picture.", "diary.jpg")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("“diary.jpg” cannot be read as an image.")
    expect(alert).to_contain_text("It is not an image but text.")
    assert names(page) == before
    assert page.url.endswith("?image=1")
    page.locator(f"{TILES} .pick").first.click()
    expect(page.locator("[data-alert]")).to_have_count(0)


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(open_page):
    page = open_page()
    sent = []
    page.on("request", lambda request: sent.append(request.method))
    choose(page, bytes(1_100_000), "huge.jpg")
    expect(page.get_by_role("alert")).to_contain_text("This file is too large: at most 1.0")
    assert "POST" not in sent


def test_a_server_that_is_gone_is_said(open_page):
    page = open_page(expect=("net::ERR_FAILED",))
    page.route("**/search", lambda route: route.abort())
    choose(page, b"anything", "x.jpg")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer.")
    assert page.locator(".wall .pick").count() > 0


def test_a_slow_search_shows_the_picture_and_placeholders_at_once(open_page, pictures):
    page = open_page()
    answers = []
    page.route("**/search", lambda route: answers.append(route))
    choose(page, query_like(some_picture(pictures, kinds(pictures)[4])), "slow.jpg")
    expect(page.locator(".skeleton")).to_have_count(10)
    expect(page.locator("#content")).to_have_attribute("aria-busy", "true")
    expect(page.locator("#announce")).to_have_text("Looking for similar images…")
    assert page.locator(".query img").get_attribute("src").startswith("blob:")
    answers[0].continue_()
    expect(page.locator(TILES)).to_have_count(10)
    expect(page.locator(".skeleton")).to_have_count(0)
    expect(page.locator("#content")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#announce")).to_have_text("10 most similar images")


def test_only_the_last_of_two_quick_searches_is_shown(open_page, pictures):
    page = open_page()
    held = []
    page.route("**/search", lambda route: held.append(route) if not held else route.continue_())
    first, second = (some_picture(pictures, kind) for kind in kinds(pictures)[5:7])
    choose(page, query_like(first), "first.jpg")
    expect(page.locator(".skeleton")).to_have_count(10)
    hand_over(page, "drop", query_like(second, "PNG"), "second.png")
    expect(page.locator(".query .name")).to_have_text("second.png")
    expect(page.locator(TILES)).to_have_count(10)
    assert names(page)[0] == second.name


def test_details_show_the_facts_and_arrows_walk_through_the_results(open_page, pictures):
    page = open_page("?image=1")
    all_names = names(page)
    opener = page.locator(f"{TILES} .more").nth(1)
    opener.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text(all_names[1])
    expect(dialog.locator("[data-score]")).to_have_text(page.locator("[data-value]").nth(1).inner_text())
    expect(dialog.locator(".path")).to_contain_text(str(pictures))
    expect(dialog).to_contain_text("px,")
    expect(dialog.locator("[data-place]")).to_have_text("2 of 10")
    expect(dialog.get_by_role("link", name="More like this")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading")).to_have_text(all_names[2])
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(dialog.get_by_role("heading")).to_have_text(all_names[0])
    expect(dialog.get_by_role("button", name="Previous image")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator(f"{TILES} .more").first).to_be_focused()


def test_enter_in_the_details_searches_with_the_image(open_page):
    page = open_page("?image=1&k=5")
    wanted = names(page)[3]
    page.locator(f"{TILES} .more").nth(3).click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text(wanted)
    page.keyboard.press("Enter")
    expect(page.locator(".query .name")).to_have_text(wanted)
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert "k=5" in page.url


def test_everything_can_be_reached_from_the_keyboard(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("[data-intake] input[type=file]")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Search")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Why can I not type words?")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Show others")).to_be_focused()
    page.keyboard.press("Tab")
    picks = page.locator(".wall .pick")
    expect(picks.first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(picks.nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(picks.nth(11)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(TILES)).to_have_count(10)
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.locator(f"{TILES} .pick").first.focus()
    page.keyboard.press("i")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("dialog")).to_be_hidden()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_has_no_horizontal_scroll(open_page, width):
    page = open_page(width=width, height=800, is_mobile=True, has_touch=True)
    for step in ("start", "results", "details"):
        if step == "results":
            page.locator(".wall .pick").nth(2).tap()
            expect(page.locator(TILES)).to_have_count(10)
        if step == "details":
            page.locator(f"{TILES} .more").first.tap()
            expect(page.get_by_role("dialog")).to_be_visible()
        wide = page.evaluate(
            """() => [...document.querySelectorAll("body, main, dialog, .tiles")]
                .map((element) => [element.tagName, element.scrollWidth - element.clientWidth])
                .filter(([, over]) => over > 1)"""  # fractions of a pixel are rounded up
        )
        assert not wide, step
        assert page.evaluate("document.documentElement.scrollWidth") == width, step


def test_touch_targets_are_large_enough(open_page):
    page = open_page("?image=1", width=390, height=800, is_mobile=True, has_touch=True)
    for selector in (f"{TILES} .more", ".button.quiet", ".k select", ".where input", ".choose", ".go", ".q"):
        box = page.locator(selector).first.bounding_box()
        assert min(box["width"], box["height"]) >= 42, selector


def test_the_page_speaks_chinese_and_switches(open_page):
    page = open_page(locale="zh-CN")
    expect(page.get_by_role("heading", level=1)).to_have_text("查找相似图片")
    page.locator(".wall .pick").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("最相似的 10 张图片")
    address = page.url
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("10 most similar images")
    assert page.url == address
    page.get_by_role("button", name="简体中文").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("最相似的 10 张图片")


def test_a_chinese_reader_gets_chinese_messages(open_page):
    page = open_page("?image=1", locale="zh-CN", expect=(400,))
    choose(page, b"text", "diary.jpg")
    expect(page.get_by_role("alert")).to_contain_text("无法将“diary.jpg”作为图片读取")


def test_without_scripts_a_picture_can_be_sent_and_a_result_followed(open_page, pictures):
    page = open_page(java_script_enabled=False)
    wanted = some_picture(pictures, kinds(pictures)[0], 2)
    choose(page, query_like(wanted))
    page.get_by_role("button", name="Search").click()
    expect(page.locator(TILES)).to_have_count(10)
    expect(page.locator(f"{TILES} img").first).to_have_attribute("alt", wanted.name)
    page.locator(f"{TILES} .more").first.click()
    expect(page.get_by_role("heading", name=wanted.name)).to_be_visible()
    page.get_by_role("link", name="More like this").click()
    expect(page.locator(".query .name")).to_have_text(wanted.name)
    page.locator(".where input").fill("width>100000")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".nothing")).to_have_text("No image fits this filter.")


def test_a_filter_narrows_a_mistake_is_explained_and_a_chip_filters(open_page, pictures):
    page = open_page("?image=1", expect=(422,))
    field = page.locator(".where input")
    kind = kinds(pictures)[-1]
    field.fill(f"label={kind}")
    field.press("Enter")
    expect(page.locator(TILES)).to_have_count(PER_KIND)
    expect(page.locator(".where input")).to_be_focused()
    page.locator(".where input").fill("label:")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The filter cannot be understood.")
    expect(page.locator(".where input")).to_have_value("label:")
    page.locator(".where input").fill("")
    page.keyboard.press("Enter")
    expect(page.locator(TILES)).to_have_count(10)
    page.locator(f"{TILES} .chips a").first.click()
    expect(page.get_by_role("link", name="Remove the filter")).to_be_visible()
    labels = page.locator(f"{TILES} .chips a").all_inner_texts()
    assert len(set(labels)) == 1


# WCAG 2.2, 1.4.3: 4.5 for text; 1.4.11: 3 for the edges of controls.
CONTRAST = """() => {
    const colour = (name) => {
        const probe = document.createElement("canvas").getContext("2d");
        probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
        probe.fillRect(0, 0, 1, 1);
        return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (name) => colour(name).map((c) => c / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    return (one, two) => {
        const [dark, bright] = [light(one), light(two)].sort((a, b) => a - b);
        return (bright + 0.05) / (dark + 0.05);
    };
}"""
PAIRS = [
    ("--ink", "--ground", 7),
    ("--ink", "--surface", 7),
    ("--ink-soft", "--ground", 4.5),
    ("--ink-soft", "--surface", 4.5),
    ("--ink-soft", "--well", 4.5),
    ("--on-accent", "--accent", 4.5),
    ("--on-accent", "--accent-hover", 4.5),
    ("--accent", "--ground", 4.5),
    ("--accent", "--surface", 4.5),
    ("--danger", "--danger-well", 4.5),
    ("--line-strong", "--ground", 3),
    ("--line-strong", "--surface", 3),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_enough_contrast(open_page, scheme):
    page = open_page(color_scheme=scheme)
    for one, two, wanted in PAIRS:
        ratio = page.evaluate(f"([one, two]) => ({CONTRAST})()(one, two)", [one, two])
        assert ratio >= wanted, f"{one} on {two} in the {scheme} scheme: {ratio:.2f}"


def test_dark_and_light_follow_the_system(open_page):
    light, dark = (
        open_page(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    )
    assert light == "rgb(250, 248, 244)"
    assert dark == "rgb(20, 22, 21)"


def test_who_wants_no_motion_gets_none(open_page, pictures):
    page = open_page()
    page.route("**/search", lambda route: None)
    choose(page, query_like(some_picture(pictures, kinds(pictures)[0])))
    page.locator(".skeleton").first.wait_for()
    assert page.locator(".skeleton").first.evaluate("e => getComputedStyle(e).animationName") == "none"
