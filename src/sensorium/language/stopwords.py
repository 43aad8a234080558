"""Stop words of English and Chinese."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

Known = Literal["none", "english", "chinese", "both"]

# "not", "no", "never" and "n't" are not stop words, since they negate.
_ENGLISH = """
a an the this that these those i me my mine we us our ours you your yours he him his she her hers it its they them
their theirs myself yourself himself herself itself ourselves themselves who whom whose which what where when how why
and or but if then than so as of at by for with about between into through during before after above below to from up
down in out on off over under again once here there all any both each few more most other some such only own same too
very just also am is are was were be been being have has had having do does did doing will would shall should can
could may might must because while until since i'm i've i'd i'll you're you've it's he's she's we're they're that's
there's
"""
# 不, 没, 无 and 别 are not stop words for the same reason.
_CHINESE = """
的 了 着 过 地 得 之 是 在 有 和 与 及 或 而 且 但 但是 并 并且 也 都 就 还 又 才 便 把 被 对 对于 关于
从 到 向 往 于 由 以 为 为了 因 因为 所以 如果 虽然 然而 我 你 您 他 她 它 我们 你们 他们 她们 它们
咱们 自己 这 那 这个 那个 这些 那些 这里 那里 哪 哪里 谁 什么 怎么 怎样 一 一个 一些 一种 个 些 种 每
各 某 其 其中 吗 呢 吧 啊 呀 哦 嗯 嘛 啦 上 下 中 里 会 能 可以 可能 要 应该 将 已 已经 正在 很 太 更
最
"""
ENGLISH, CHINESE = frozenset(_ENGLISH.split()), frozenset(_CHINESE.split())
_SETS: dict[Known, frozenset[str]] = {
    "none": frozenset(),
    "english": ENGLISH,
    "chinese": CHINESE,
    "both": ENGLISH | CHINESE,
}


def stopwords(known: Known = "none", own: str = "") -> frozenset[str]:
    """Return the stop words of the list ``known`` and the user's ``own``, separated by spaces or commas."""
    return _SETS[known] | {word.lower() for word in own.replace(",", " ").replace("，", " ").split()}


def remove_stopwords(words: Sequence[str], stop: Collection[str]) -> list[str]:
    """Remove the stop words ``stop``, ignoring case, from ``words``; if no word would be left, return all words."""
    kept = [word for word in words if word.lower().replace("’", "'") not in stop]
    # "To be or not to be" must not become a missing cell; punctuation alone is not a word.
    return kept if any(word[0].isalnum() for word in kept) else list(words)
