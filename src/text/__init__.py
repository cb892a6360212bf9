"""Texts: documents one a line in .txt files, or the .json files of the chinese-poetry collection.

Source: `poems`, 258 well-known Tang poems (sample), the 57,000 of chinese-poetry (download), or a folder;
`words`, prose about machines that learn, cut into words by jieba (sample), or a folder with any text. Raw
files in data/raw/<task>/, token numbers in data/prepared/<task>/.

Batches: of poems, tokens (B, T) int32 from <BOS> to <EOS>, padded; of words, (B, 2 width + 1) int32 with the
word to predict in the middle.
Metrics: perplexity a token; bits a character of poems, accuracy of words.
Expected: `poems` perplexity 189 on the sample in 14 s (bigram 230), 333 on the 319 of Three Hundred Tang
Poems in 42 s (bigram 385); `words` perplexity 144, accuracy 0.13 in 4 s.
"""
