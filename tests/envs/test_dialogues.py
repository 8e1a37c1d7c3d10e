"""Negotiation and Booking: what the scripted other side says, and that only the exact outcome pays."""

from __future__ import annotations

import re

import numpy as np
import pytest

from quintain.envs import TextEnv, make
from quintain.envs.library.booking import best_flat, right_booking
from quintain.envs.library.negotiation import best_choice
from quintain.tools import UserError
from quintain.verifiers import Task


def play(env: TextEnv, policy, index: int) -> float:
    env.reset(options={"task": index})
    rng = np.random.default_rng(index)
    while True:
        _, reward, terminated, truncated, _ = env.step(policy(env.task, env.messages, rng))
        if terminated or truncated:
            return reward


LEVELS = [
    ("quintain/Negotiation-v0", {"terms": 1}),
    ("quintain/Negotiation-v0", {"terms": 2, "partial": True}),
    ("quintain/Negotiation-v0", {"terms": 5, "max_turns": 7}),
    ("quintain/Booking-v0", {"flats": 8, "features": 1}),
    ("quintain/Booking-v0", {"flats": 20, "features": 3, "changes": True, "max_turns": 6}),
]
SPAM = [
    "", "yes", "I accept.", "Deal!", "price 500", "price 1000; delivery 1","price 99999; delivery 4; training 4",
    "Done: it is yours.", "BOOK", "BOOK A1; Ada Abel; 1 May; 7; 4", "BOOK flat; name; arrival; nights; guests",
    "Thank you, goodbye.", "What is your name, date, budget? How many nights and guests? What features matter?",
    "\n".join(f"price {n}; delivery 2; training 2" for n in range(0, 3000, 7)),
    "\n".join(f"BOOK {letter}{n}; Ada Abel; 1 May; 7; 4" for letter in "ABCDEFGHJ" for n in range(10)),
    "ВООК A1; Ada Abel; 1 May; 7; 4", "price ５００; delivery 1; warranty 1", "x" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize(("env_id", "options"), LEVELS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_oracle_gets_everything(env_id, options, split):
    env = make(env_id, split=split, **options)
    assert all(play(env, env.oracle, index) == 1.0 for index in range(20))


@pytest.mark.parametrize("env_id", ["quintain/Negotiation-v0", "quintain/Booking-v0"])
@pytest.mark.parametrize("reply", SPAM, ids=lambda reply: ascii(reply[:20]))
def test_a_constant_reply_earns_nothing(env_id, reply):
    env = make(env_id)
    assert all(play(env, lambda *_: reply, index) == 0.0 for index in range(15))


@pytest.mark.parametrize("env_id", ["quintain/Negotiation-v0", "quintain/Booking-v0"])
def test_the_prompt_echoed_earns_nothing(env_id):
    env = make(env_id)
    assert all(play(env, lambda task, *_: task.prompt, index) == 0.0 for index in range(40))


@pytest.mark.parametrize("env_id", ["quintain/Negotiation-v0", "quintain/Booking-v0"])
def test_no_task_comes_twice_and_the_splits_are_apart(env_id):
    def prompts(split: str, seed: int) -> set[str]:
        tasks = make(env_id, split=split, seed=seed).tasks
        return {tasks[index].prompt.partition("Customer:")[0] for index in range(100)}

    assert len(prompts("train", 0)) == 100
    assert not prompts("train", 0) & prompts("test", 0)
    assert not prompts("train", 1) & prompts("test", 2)


@pytest.mark.parametrize(
    ("env_id", "options", "said"),
    [
        ("quintain/Negotiation-v0", {"terms": 6}, "terms must be 1 to 5, got 6"),
        ("quintain/Negotiation-v0", {"max_turns": 3}, "2 terms need 4 replies, got max_turns=3"),
        ("quintain/Booking-v0", {"flats": 7}, "flats must be 8 to 20, got 7"),
        ("quintain/Booking-v0", {"features": 4}, "features must be 1 to 3, got 4"),
        ("quintain/Booking-v0", {"max_turns": 5}, "need max_turns of 6, got 5"),
        ("quintain/Booking-v0", {"split": "all"}, "split must be 'train' or 'test', got 'all'"),
    ],
)
def test_wrong_options_are_named(env_id, options, said):
    with pytest.raises(UserError, match=said):
        make(env_id, **options)


# --- Negotiation

TERMS = {
    "cost": 300,
    "worth": 400,
    "unit_costs": {"delivery": 30, "warranty": 50},
    "worths": {"delivery": [0, 60, 70, 75, 80], "warranty": [0, 70, 130, 160, 170]},
    "gain": 160,  # delivery 1 gains 30, warranty 2 gains 30, the thing itself 100
}


def negotiation(**options: object) -> TextEnv:
    env = make("quintain/Negotiation-v0", **options)
    env.reset(options={"task": Task("t", "Buy.", TERMS)})
    return env


def test_the_best_deal_is_what_exceeds_its_cost_most():
    assert best_choice(TERMS) == {"delivery": 1, "warranty": 2}


def test_a_refusal_says_exactly_what_is_missing():
    env = negotiation()
    assert env.step("price 0; delivery 0; warranty 0")[0] == "No. 300 euros are missing."
    assert env.step("Price: 429 euros, delivery 1, warranty 2")[0] == "No. 1 euros are missing."


@pytest.mark.parametrize(
    ("offer", "exact", "share"),
    [
        ("price 430; delivery 1; warranty 2", 1.0, 1.0),
        ("<answer>price 430; delivery 1; warranty 2</answer>", 1.0, 1.0),
        ("price 431; delivery 1; warranty 2", 0.0, 159 / 160),  # a euro too much
        ("price 300; delivery 0; warranty 0", 0.0, 100 / 160),
        ("price 620; delivery 4; warranty 4", 0.0, 30 / 160),
        ("price 9999; delivery 1; warranty 2", 0.0, 0.0),  # a loss
    ],
)
def test_a_deal_pays_for_its_gain(offer, exact, share):
    assert negotiation().step(offer)[1:3] == (exact, True)
    assert negotiation(partial=True).step(offer)[1] == pytest.approx(share)


@pytest.mark.parametrize(
    "reply",
    [
        "price 430",
        "price 430; delivery 1",
        "price 430; delivery 1; warranty 5",
        "price -1; delivery 1; warranty 2",
        "price 430.5; delivery 1; warranty 2",
        "warranty 2; delivery 1; price 430",
        "price 430; delivery 1; warranty 2\nprice 431; delivery 1; warranty 2",
    ],
)
def test_what_is_no_offer_is_answered_by_the_form(reply):
    observation, reward, done, *_ = negotiation().step(reply)
    assert observation.startswith("Make one offer such as\nprice 0; delivery 0; warranty 0")
    assert (reward, done) == (0.0, False)


def test_the_costs_are_not_told():
    for index in range(30):
        task = make("quintain/Negotiation-v0").tasks[index]
        told = re.findall(r"\d+", task.prompt)
        assert str(task.answer["cost"]) not in told


# --- Booking


def flat(code: str, sleeps: int, price: int, beach: int, rating: int, *features: str) -> dict[str, object]:
    return {
        "code": code,
        "sleeps": sleeps,
        "price": price,
        "beach": beach,
        "rating": rating,
        "features": features,
    }


FLATS = [
    flat("A1", 4, 100, 300, 80, "lift"),
    flat("A2", 3, 90, 100, 90, "lift"),  # too small
    flat("A3", 4, 95, 200, 70),  # no lift
    flat("A4", 5, 160, 150, 95, "lift"),  # too expensive
    flat("A5", 4, 110, 250, 85, "lift", "parking"),
]
WISHES = {
    "name": "Ada Abel",
    "arrival": "3 May",
    "nights": 7,
    "guests": 4,
    "budget": 120,
    "features": ["lift"],
    "aim": "price",
}
SAYINGS = {
    topic: f"{topic} {{{topic}}}."
    for topic in ("name", "arrival", "nights", "guests", "budget", "features", "aim")
}


def booking(first_guests: int = 0, **wishes: object) -> TextEnv:
    env = make("quintain/Booking-v0")
    customer = {
        "flats": FLATS, "wishes": {**WISHES, **wishes}, "first_guests": first_guests, "sayings": SAYINGS
    }  # fmt: skip
    env.reset(options={"task": Task("t", "Book.", customer)})
    return env


@pytest.mark.parametrize(
    ("wishes", "code"),
    [
        ({}, "A1"),
        ({"aim": "beach"}, "A5"),
        ({"aim": "rating"}, "A5"),
        ({"guests": 3}, "A2"),
        ({"features": []}, "A3"),
        ({"budget": 200, "aim": "beach"}, "A4"),
        ({"guests": 6}, None),
    ],
)
def test_the_best_flat_meets_all_wishes(wishes, code):
    assert best_flat(FLATS, {**WISHES, **wishes}) == code


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is your name?", "name Ada Abel."),
        ("When do you arrive, and how many nights do you stay?", "arrival 3 May. nights 7."),
        ("How many people are you, and what is your budget a night?", "guests 4. budget 120."),
        ("Thank you, 7 nights, 4 guests, arriving 3 May. Which features do you need?", "features lift."),
        ("Please tell me what matters most to you", "aim as cheap as possible."),
        ("Name, date, nights?", "That is a lot at once. Please ask me for one or two things at a time."),
        ("Hm.", "I did not get that."),
        ("<think>the name?</think>", "I did not get that."),
        ("BOOK it please", "To book, write in the last line, with your values: BOOK flat"),
    ],
)
def test_the_customer_answers_what_is_asked(question, answer):
    assert booking().step(question)[0].startswith(answer)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("BOOK A1; Ada Abel; 3 May; 7; 4", "every field is right"),
        ("All clear, then.\nBOOK a1; ada abel; 3 may; 7 nights; 4 guests", "every field is right"),
        ("BOOK A5; Ada Abel; 3 May; 7; 4", "wrong: flat"),
        ("BOOK A1; Eva Abel; 4 May; 8; 3", "wrong: name, arrival, nights, guests"),
    ],
)
def test_a_booking_is_compared_field_by_field(reply, reason):
    _, reward, done, _, info = booking().step(reply)
    assert (reward, done, info["score"].reason) == (float("right" in reason), True, reason)


def test_several_bookings_are_none():
    observation, reward, done, *_ = booking().step(
        "BOOK A1; Ada Abel; 3 May; 7; 4\nBOOK A5; Ada Abel; 3 May; 7; 4"
    )
    assert (observation.startswith("To book"), reward, done) == (True, 0.0, False)


def test_the_customer_corrects_the_guests_with_a_later_answer():
    env = booking(first_guests=2)
    assert env.step("How many guests?")[0] == "guests 2."
    assert env.step("Your name?")[0] == "name Ada Abel. Oh, and I was wrong before: there will be 4 of us."
    assert env.step("How many guests?")[0] == "guests 4."
    assert env.step("BOOK A1; Ada Abel; 3 May; 7; 4")[1] == 1.0


def test_the_customer_corrects_before_a_booking_at_the_latest():
    env = booking(first_guests=2)
    env.step("How many guests?")
    observation, reward, done, *_ = env.step("BOOK A2; Ada Abel; 3 May; 7; 2")
    assert (observation, reward, done) == (
        "Wait, do not book yet. Oh, and I was wrong before: there will be 4 of us.",
        0.0,
        False,
    )
    assert env.step("BOOK A1; Ada Abel; 3 May; 7; 4")[1] == 1.0


@pytest.mark.parametrize("options", [{"flats": 8, "features": 1}, {}, {"flats": 20, "features": 3}])
def test_every_wish_decides(options):
    tasks = make("quintain/Booking-v0", **options).tasks
    for index in range(100):
        customer = tasks[index].answer
        wishes, flats = customer["wishes"], customer["flats"]
        right = right_booking(customer)[0]
        ignored = [
            {"guests": 1},
            *({"aim": aim} for aim in ("price", "beach", "rating") if aim != wishes["aim"]),
        ]
        ignored += [{"features": [f for f in wishes["features"] if f != left]} for left in wishes["features"]]
        ignored += [{"budget": 9999}] if wishes["aim"] != "price" else []
        assert right in {each["code"] for each in flats}
        assert right not in {best_flat(flats, {**wishes, **change}) for change in ignored}


def test_the_forgetful_clerk_is_right_more_often_than_not():
    env = make("quintain/Booking-v0")
    assert 0.55 < np.mean([play(env, env.demonstrator, index) for index in range(200)]) < 0.85
