"""Texts: documents one a line in .txt files, or the .json files of the chinese-poetry collection.

Source: `poems`, 258 well-known Tang poems (sample), the 57,000 of chinese-poetry (download), or a folder;
`words`, prose about machines that learn, cut into words by jieba (sample), or a folder with any text. Raw
files in data/raw/<task>/, token numbers in data/prepared/<task>/.

Batches: of poems, tokens (B, T) int32 from <BOS> to <EOS>, padded; of words, (B, 2 width + 1) int32 with the
word to predict in the middle.
Metrics: perplexity a token; bits a character of poems, accuracy of words.
Expected test score ± two standard deviations over the seed, and time of training on one core:
    poems, sample: perplexity 189 ± 4.4 in 14 s
    words, sample: accuracy 0.13 ± 0.017 in 4 s
The perplexity is 333 on the 319 of Three Hundred Tang Poems, in 42 s, and 100.5 on the download with
configs/poems_large.yaml, in 1 h.
"""
