"""Search by words and by combinations, as people do it: typing, adding, weighing, going back."""

import re
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.browser.conftest import PER_KIND
from tests.browser.moves import TILES, choose, hand_over, kinds, names, query_like, some_picture

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
expect = sync_api.expect

pytestmark = pytest.mark.browser


def asked(page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def at(**asked: object) -> str:
    return f"?{urlencode(asked)}"


def search(page, text: str) -> None:
    page.locator("#content .q").fill(text)
    page.keyboard.press("Enter")


def shown_kinds(page, count: int = PER_KIND) -> list[str]:
    return [name.rpartition("-")[0] for name in names(page)[:count]]


def drag(page, selector: str, value: str) -> None:
    """Move a slider as a hand does: input while it moves, change at the end."""
    page.locator(selector).evaluate(
        """(slider, value) => {
            slider.value = value;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            slider.dispatchEvent(new Event("change", { bubbles: true }));
        }""",
        value,
    )


@pytest.mark.parametrize("kind", ["snowman", "butterfly", "city"])
def test_typed_words_find_what_they_say(open_reading, kind):
    page = open_reading()
    search(page, f"a {kind}")
    expect(page.locator(TILES)).to_have_count(10)
    assert shown_kinds(page) == [kind] * PER_KIND
    expect(page.get_by_role("heading", level=1)).to_have_text("10 best matches")
    expect(page).to_have_title(f"a {kind} · vitseek")
    assert asked(page) == {"q": f"a {kind}"}
    expect(page.locator("#content .q")).to_have_value(f"a {kind}")


def test_slash_goes_to_the_box_and_escape_clears_and_leaves_it(open_reading):
    page = open_reading("?q=a+cat")
    page.keyboard.press("/")
    box = page.locator("#content .q")
    expect(box).to_be_focused()
    page.keyboard.type("a city")  # the old words were selected
    expect(box).to_have_value("a city")
    page.keyboard.type("/night")
    expect(box).to_have_value("a city/night")
    page.keyboard.press("Escape")
    expect(box).to_have_value("")
    page.keyboard.press("Escape")
    expect(box).not_to_be_focused()


def test_plus_and_minus_on_results_build_a_combination_and_back_undoes_it(open_reading):
    page = open_reading("?q=a+snowman")
    first = names(page)
    wanted = page.locator(TILES).nth(6)
    added = wanted.get_attribute("data-tile")
    wanted.hover()
    wanted.get_by_role("link", name=re.compile("^Add ")).click()
    expect(page.locator(".part")).to_have_count(2)
    assert asked(page) == {"q": f'"a snowman" + image:{added}'}
    assert names(page) != first
    taken = page.locator(TILES).nth(1)
    less = taken.get_attribute("data-tile")
    taken.locator(".pick").focus()
    page.keyboard.press("-")
    expect(page.locator(".part.minus")).to_have_count(1)
    assert asked(page)["q"] == f'"a snowman" + image:{added} - 0.5 image:{less}'
    page.go_back()
    expect(page.locator(".part")).to_have_count(2)
    page.go_back()
    expect(page.locator(".part")).to_have_count(0)
    expect(page.locator(".phrase")).to_have_text("a snowman")
    assert names(page) == first
    page.go_forward()
    expect(page.locator(".part")).to_have_count(2)


def test_a_weight_is_moved_and_the_address_says_it(open_reading):
    page = open_reading(at(q='"a cat" + "a snowman"'))
    drag(page, ".part:nth-child(2) input[type=range]", "-1.5")
    expect(page).to_have_url(re.compile(r"1\.5"))
    assert asked(page) == {"q": '"a cat" - 1.5 "a snowman"'}
    expect(page.locator(".part output").nth(1)).to_have_text("−1.5")
    expect(page.locator(".part input[type=range]").nth(1)).to_have_value("-1.5")
    assert "snowman" not in shown_kinds(page, 10)
    drag(page, ".part:nth-child(2) input[type=range]", "2")
    expect(page).to_have_url(re.compile(r"%2B\+2\+"))
    expect(page.locator(".part.minus")).to_have_count(0)
    assert asked(page) == {"q": '"a cat" + 2 "a snowman"'}
    assert "snowman" in shown_kinds(page)
    page.get_by_role("link", name="Remove a cat from the query").click()
    expect(page.locator(".part")).to_have_count(1)
    assert asked(page) == {"q": '2 "a snowman"'}


def test_the_slider_keeps_the_focus_for_the_next_key(open_reading):
    page = open_reading(at(q='"a cat" + "a snowman"'))
    slider = page.locator(".part input[type=range]").nth(1)
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"1\.1"))
    expect(slider).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"1\.2"))
    assert asked(page) == {"q": '"a cat" + 1.2 "a snowman"'}


def test_words_are_added_to_and_taken_from_a_picture(open_reading):
    page = open_reading("?image=1")
    page.get_by_label("Words to add to the query").fill("at night")
    page.keyboard.press("Enter")
    expect(page.locator(".part")).to_have_count(2)
    assert asked(page) == {"q": 'image:1 + "at night"'}
    page.get_by_label("Words to add to the query").fill("snow")
    page.get_by_role("button", name="Less like these words").click()
    expect(page.locator(".part")).to_have_count(3)
    assert asked(page) == {"q": 'image:1 + "at night" - 0.5 "snow"'}


def test_a_dropped_picture_joins_typed_words(open_reading, captioned):
    page = open_reading()
    picture = query_like(some_picture(captioned, "sailboat"), "PNG")
    page.locator("#content .q").fill("2 \"at night\" - 0.5 'snow'")
    hand_over(page, "drop", picture, "boat.png")
    expect(page.locator(".part")).to_have_count(3)
    expect(page.locator(".part .what").first).to_have_text("boat.png")
    assert re.fullmatch(r'upload:\w+ \+ 2 "at night" - 0.5 "snow"', asked(page)["q"])
    page.reload()
    expect(page.locator(".part")).to_have_count(3)
    loaded = page.locator(".part img").evaluate_all("all => Promise.all(all.map((image) => image.decode()))")
    assert len(loaded) == 1


def test_a_dropped_picture_replaces_a_query_and_the_other_button_adds_it(open_reading, captioned):
    page = open_reading("?q=a+snowman")
    picture = query_like(some_picture(captioned, "sailboat"), "PNG")
    choose(page, picture, "boat.png", "image/png")
    expect(page).to_have_url(re.compile(r"\?query=\w+$"))
    expect(page.locator(".query .name")).to_have_text("boat.png")
    page.go_back()
    expect(page.locator(".phrase")).to_have_text("a snowman")
    page.set_input_files(
        "[data-more] input[type=file]", {"name": "boat.png", "mimeType": "image/png", "buffer": picture}
    )
    expect(page.locator(".part")).to_have_count(2)
    assert re.fullmatch(r'upload:\w+ \+ "a snowman"', asked(page)["q"])


def test_a_mistake_in_a_query_is_shown_and_loses_nothing(open_reading):
    page = open_reading("?q=a+cat", expect=(422,))
    before = names(page)
    search(page, 'a cat + "at night')
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The query cannot be understood.")
    expect(alert.locator("mark")).to_have_text('"')
    expect(page.locator("#content .help")).to_be_hidden()  # it would lie over the message
    assert names(page) == before
    assert asked(page) == {"q": "a cat"}
    expect(page.locator("#content .q")).to_have_value('a cat + "at night')
    page.locator("#content .q").press("End")
    page.keyboard.type('"')
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator(".part")).to_have_count(2)


def test_the_balance_of_two_spaces_moves_the_results_and_the_address(open_reading):
    page = open_reading("?image=3")
    looks = names(page)
    slider = page.get_by_label("Balance of looks and meaning")
    expect(slider).to_have_value("0")
    drag(page, "#balance", "1")
    expect(page).to_have_url(re.compile("balance=1"))
    expect(slider).to_have_value("1")
    means = names(page)
    assert means != looks
    drag(page, "#balance", "0.5")
    expect(page).to_have_url(re.compile(r"balance=0\.5"))
    page.go_back()
    expect(slider).to_have_value("1")
    assert names(page) == means
    page.locator(TILES).nth(2).locator(".pick").click()
    expect(page).to_have_url(re.compile("balance=1"))
    search(page, "a snowman")
    expect(page.locator(".phrase")).to_be_visible()
    expect(slider).to_be_disabled()


def test_a_gallery_without_two_spaces_shows_no_slider_and_explains_words(open_page):
    page = open_page(expect=(422,))
    page.get_by_text("Why can I not type words?").click()
    command = page.locator(".teach code").first
    expect(command).to_be_visible()
    expect(command).to_have_text(re.compile(r"^vitseek index \S+ --model clip-vit-b32$"))
    search(page, "a red ball")
    expect(page.get_by_role("alert")).to_contain_text("This gallery does not read words yet.")
    search(page, "image:1 + image:9")
    expect(page.locator(".part")).to_have_count(2)
    expect(page.locator("#balance")).to_have_count(0)
    expect(page.get_by_label("Words to add to the query")).to_have_count(0)


def test_the_command_is_copied(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_text("Why can I not type words?").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").endswith("--model clip-vit-b32")


def test_the_box_stays_in_its_place_from_search_to_search(open_reading):
    page = open_reading("?q=a+cat")

    def place():
        return page.locator("#content .box").bounding_box()

    before = place()
    answers = []
    page.route("**/?q=*", lambda route: answers.append(route))
    search(page, "a snowman")
    expect(page.locator(".skeleton")).to_have_count(10)
    assert place() == before
    expect(page.locator("#content .q")).to_have_value("a snowman")
    answers[0].continue_()
    expect(page.locator(".phrase")).to_have_text("a snowman")
    assert place() == before
    page.locator("#content .q").focus()
    expect(page.locator(".help")).to_be_visible()
    assert place() == before


def test_a_predicted_label_is_shown_and_filters(open_reading):
    page = open_reading("?q=a+cat")
    page.locator(f"{TILES} .more").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".guesses")).to_contain_text("a cat")
    expect(dialog.locator(".guesses")).to_contain_text("zero-shot")
    expect(dialog.get_by_role("link", name="Add to query")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("navigation", name="Only images with a label").get_by_role("link", name="a snowman").click()
    expect(page).to_have_url(re.compile("where="))
    shown = page.locator(f"{TILES} .predicted").all_inner_texts()
    assert len(shown) == page.locator(TILES).count()
    assert all(label.startswith("a snowman") for label in shown)
    expect(page.locator(".facets [aria-current]")).to_contain_text("a snowman")


def test_details_in_a_search_go_on_from_it(open_reading):
    page = open_reading("?q=a+cat&k=5")
    shown = page.locator(TILES).nth(1).get_attribute("data-tile")
    page.locator(f"{TILES} .more").nth(1).click()
    page.get_by_role("dialog").get_by_role("link", name="Less like this").click()
    expect(page.locator(".part.minus")).to_have_count(1)
    assert asked(page) == {"q": f'"a cat" - 0.5 image:{shown}', "k": "5"}
    expect(page.get_by_role("dialog")).to_be_hidden()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_has_no_horizontal_scroll_with_a_combination(open_reading, width):
    long = "a very long text about a cat that sits in front of a house"
    address = at(q=f'image:1 + "{long}" - 0.5 "snow"', balance=0.5)
    page = open_reading(address, width=width, height=800, is_mobile=True, has_touch=True)
    expect(page.locator(".part")).to_have_count(3)
    wide = page.evaluate(
        """() => [...document.querySelectorAll("body, main, .part, .add, .controls, .box")]
            .map((element) => [element.className || element.tagName, element.scrollWidth - element.clientWidth])
            .filter(([, over]) => over > 1)"""
    )
    assert not wide
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for selector in (".remove", ".add-words button", ".add-picture .button", ".go", ".choose"):
        box = page.locator(selector).first.bounding_box()
        assert min(box["width"], box["height"]) >= 42, selector


def test_a_phone_adds_from_the_details(open_reading):
    page = open_reading("?q=a+cat", width=390, height=800, is_mobile=True, has_touch=True)
    expect(page.locator(".handles").first).to_be_hidden()
    page.locator(f"{TILES} .more").nth(2).tap()
    page.get_by_role("dialog").get_by_role("link", name="Add to query").tap()
    expect(page.locator(".part")).to_have_count(2)


def test_without_scripts_words_weights_and_pictures_work(open_reading, captioned):
    page = open_reading(java_script_enabled=False)
    page.get_by_role("searchbox").fill("a snowman")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(TILES)).to_have_count(10)
    assert shown_kinds(page) == ["snowman"] * PER_KIND
    assert asked(page) == {"q": "a snowman"}
    page.get_by_label("Words to add to the query").fill("a cat")
    page.get_by_role("button", name="More like these words").click()
    expect(page.locator(".part")).to_have_count(2)
    page.get_by_role("link", name="Remove a snowman from the query").click()
    assert asked(page) == {"q": "a cat"}
    page.set_input_files(
        "[data-more] input[type=file]",
        {"name": "x.png", "mimeType": "image/png", "buffer": query_like(some_picture(captioned, kinds(captioned)[0]))},
    )
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".part")).to_have_count(2)
    page.locator(".weights .apply").click()
    expect(page.locator(".part")).to_have_count(2)


def test_the_page_with_words_speaks_chinese(open_reading):
    page = open_reading(locale="zh-CN")
    expect(page.get_by_placeholder("输入要找的内容")).to_be_visible()
    search(page, "a cat")
    expect(page.get_by_role("heading", level=1)).to_have_text("最符合的 10 张图片")
    expect(page.locator(".ends")).to_contain_text("意思相近")
