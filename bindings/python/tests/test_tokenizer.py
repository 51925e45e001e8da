"""Tokenizers, on a vocabulary made here."""
import os
import tempfile
import unittest

import dsrt
import support


class Words(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        with open(os.path.join(self.folder.name, "vocab.txt"), "w") as f:
            f.write("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film", "##s", "bad", "é"]) + "\n")

    def tearDown(self):
        self.folder.cleanup()

    def test_text_and_back(self):
        with dsrt.Tokenizer(self.folder.name) as t:
            e = t.encode("good films")
            self.assertEqual((e.ids, e.offsets), ([2, 5, 6, 7, 3], [(0, 0), (0, 4), (5, 9), (9, 10), (0, 0)]))
            self.assertEqual(t.decode(e.ids), "good films")
            self.assertEqual(t.encode("good", "bad").type_ids, [0, 0, 0, 1, 1])

    def test_texts_become_a_batch(self):
        batch = dsrt.Tokenizer(self.folder.name)(["good", "bad films"], max_length=4)
        self.assertEqual(batch["input_ids"].tolist(), [[2, 5, 3, 0], [2, 8, 6, 3]])
        self.assertEqual(batch["attention_mask"].tolist(), [[1, 1, 1, 0], [1, 1, 1, 1]])

    def test_a_pair_is_one_text(self):
        t = dsrt.Tokenizer(self.folder.name)
        self.assertEqual(t("good", "bad")["input_ids"].tolist(), t(["good"], ["bad"])["input_ids"].tolist())

    def test_texts_that_are_none_are_named(self):
        t = dsrt.Tokenizer(self.folder.name)
        with self.assertRaisesRegex(dsrt.errors.InvalidArgumentError, "text: .*at 1 has no UTF-8"):
            t.encode("a\ud800")
        with self.assertRaisesRegex(TypeError, r"texts\[1\] must be a str, not int"):
            t(["good", 2])
        with self.assertRaisesRegex(dsrt.errors.InvalidArgumentError, r"texts\[0\] holds a NUL at byte 5"):
            t(["hello\0world", "hello"])

    def test_half_a_character_waits_for_the_other_half(self):
        t = dsrt.Tokenizer(support.TOKENIZER)
        with t.stream() as stream:
            self.assertEqual([stream.put([i]) for i in (0, 2, 3, 1)] + [stream.end()], ["a", "", "é", "b", ""])
            self.assertEqual([stream.put([0, 2]), stream.end(), stream.put([]), stream.put([1])], ["a", "\ufffd", "", "b"])
        heard = []
        with dsrt.TextStream(t, heard.append) as stream:
            for i in (0, 2, 3, 2):
                stream([i])
        self.assertEqual(heard, ["a", "é", "\ufffd"])

    def test_a_conversation_becomes_text(self):
        t = dsrt.Tokenizer(support.TOKENIZER)
        said = [{"role": "user", "content": "é?"}]
        self.assertEqual(t.apply_chat_template(said), "<user>é?")
        self.assertEqual(t.apply_chat_template(said, add_generation_prompt=True), "<user>é?<assistant>")
        with self.assertRaisesRegex(dsrt.errors.NotFoundError, "template"):
            dsrt.Tokenizer(self.folder.name).apply_chat_template(said)

    def test_a_missing_file_is_named(self):
        with self.assertRaisesRegex(dsrt.errors.NotFoundError, "/no/such/place"):
            dsrt.Tokenizer("/no/such/place")


if __name__ == "__main__":
    support.main()
