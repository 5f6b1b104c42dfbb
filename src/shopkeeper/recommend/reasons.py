"""Why an item is shown, as a key with parameters and as a sentence in English and Chinese.

A reason is true: "because you viewed X" is said only where X stands in the user's history and the
item is among X's neighbours.
"""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "because_view": ("Because you viewed {item}", "因为您浏览过 {item}"),
    "because_favorite": ("Because you saved {item}", "因为您收藏过 {item}"),
    "because_cart": ("Because {item} is in your cart", "因为您把 {item} 加入了购物车"),
    "because_purchase": ("Because you bought {item}", "因为您购买过 {item}"),
    "because_review": ("Because you reviewed {item}", "因为您评价过 {item}"),
    "because_share": ("Because you shared {item}", "因为您分享过 {item}"),
    "for_you": ("Picked from what you have looked at", "根据您的浏览为您挑选"),
    "similar": ("Often looked at together with {item}", "看过 {item} 的人也看"),
    "looks": ("Looks alike", "外观相似"),
    "goes_with": ("Goes with what is in your cart", "与购物车里的商品搭配"),
    "same_category": ("More in {category}", "更多 {category} 商品"),
    "popular": ("Popular now", "当前热门"),
    "new": ("Something different to look at", "换个新鲜的看看"),
    "match": ("Matches your search", "符合您的搜索"),
}


def reason(key: str, **params: str) -> dict[str, object]:
    """{"key", "params", "en", "zh"}; `params` fill the sentences.

    A param with `_zh` behind its name (item_zh) fills the Chinese sentence instead of the plain one.
    """
    english, chinese = TEXTS[key]
    translated = {name[:-3]: value for name, value in params.items() if name.endswith("_zh")}
    return {
        "key": key,
        "params": params,
        "en": english.format(**params),
        "zh": chinese.format(**(params | translated)),
    }
