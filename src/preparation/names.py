"""Names of columns that say what whole numbers in them are."""

import re

LABEL_NAME = re.compile(
    r"(?i:.*(label|class|categor|type|kind|code|species))|.*(标签|类别|类型|种类|代码|编码)"
)
COUNT_NAME = re.compile(
    r"(?i:(.*[ _.-])?(count|counts|number|num|n|quantity|qty|amount|total|age|years|days|hours"
    r"|rooms|visits|score))"
    r"|.*(数|数量|次数|年龄|人数|得分|分数)"
)
