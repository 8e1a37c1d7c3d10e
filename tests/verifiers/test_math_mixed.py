"""More answers of every kind, right (1) and wrong (0): the gold answer, and what stands in the reply's box."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import pytest

from quintain.verifiers import MathAnswer, Task

ROWS: list[tuple[str, str, int]] = [
("\\frac{3}{4}","\\frac{3}{4}\\text{ or }0.75",1),("\\frac{3}{4}","\\frac{3}{4}=0.75",1),("\\frac{3}{4}","\\frac{3}{4} \\approx 0.75",1),
("\\sqrt{2}","\\sqrt{2} \\approx 1.414",1),("\\sqrt{2}","\\sqrt{2} \\approx 1.5",0),("\\pi","\\approx 3.14159",1),("12","12\\text{ (twelve)}",1),("5","x = 5",1),("5","n=5\\text{ students}",1),
("2\\sqrt{3}","\\sqrt{12}",1),("2\\sqrt{3}","3.464102",1),("2\\sqrt{3}","3.46",0),("x=1,2","x\\in\\{1,2\\}",1),("x=1,2","\\{1,2\\}",1),("\\{1,2\\}","x=1\\text{ or }x=2",1),
("(x-1)(x+2)","x^2+x-2",1),("y=x^2","y-x^2=0",1),("x^2+y^2=1","y=\\sqrt{1-x^2}",0),("\\frac{\\pi}{3}","60^\\circ",0),("60^\\circ","\\frac{\\pi}{3}",0),("1:2","\\frac12",1),("3:4","0.75",1),
("0.5","50\\%",1),("\\text{no}","No",1),("A","\\text{A. }5",1),("A","\\mathrm{(A)}",1),("A","\\textbf{A}",1),("C","\\text{C: }42",1),("B","\\text{Answer: B}",1),
("\\$18","18\\text{ dollars}",1),("\\$18","\\$18.00",1),("18","\\$18",1),("18","18\\%",0),("\\$1{,}000","\\$1000",1),("3\\text{ hours }20\\text{ minutes}","3\\text{ hours }20\\text{ minutes}",1),
("5\\frac{1}{2}","\\frac{11}{2}",1),("5\\frac{1}{2}","5.5",1),("5 \\frac{1}{2}","5\\frac12",1),("-1\\frac{1}{2}","-\\frac32",1),("-1\\frac{1}{2}","-\\frac12",0),
("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}","\\begin{pmatrix} 1 & 2 \\end{pmatrix}",0),("\\langle 1,2\\rangle","(1,2)",1),("\\mathbf{i}+2\\mathbf{j}","\\mathbf{i}+2\\mathbf{j}",1),("[1,2,3]","[1,2,3]",1),("[1,2,3]","(1,2,3)",1),
("\\begin{cases}x&x>0\\\\-x&x\\le 0\\end{cases}","\\begin{cases}x & x>0 \\\\ -x & x \\le 0\\end{cases}",1),
("\\log_2 3","\\frac{\\log 3}{\\log 2}",1),("\\log 100","2",0),("\\sin^2\\theta","1-\\cos^2\\theta",1),("\\sin\\theta","\\sin x",0),("\\cos^{-1}(1/2)","\\frac{\\pi}{3}",1),("\\tan 45^\\circ","1",1),
("e^{-x}","\\frac{1}{e^x}",1),("e^{x}","\\exp(x)",1),("2\\ln x","\\ln x^2",1),("\\ln|x|+C","\\ln|x|+C",1),("x^2+C","x^2+c",0),("\\frac{x^3}{3}+C","\\frac13x^3+C",1),("\\frac{x^3}{3}+C","\\frac13x^3",0),
("3+2i","(3,2)",0),("3+2i","3+2\\mathrm{i}",1),("|z|=5","5",1),("i^2","-1",1),("\\sqrt{-9}","3i",1),("-3i","3i",0),("1+2i","1+2j",0),("(1+i)^2","2i",1),
("\\infty","\\infty",1),("\\infty","+\\infty",1),("-\\infty","\\infty",0),("\\text{DNE}","\\text{DNE}",1),("\\text{does not exist}","\\text{Does not exist}",1),("\\text{undefined}","\\text{undefined}",1),
("x\\ge 0","[0,\\infty)",1),("x>0","x\\in(0,\\infty)",1),("x>0","x\\in\\mathbb{R}^+",0),("x<2\\text{ or }x>5","(-\\infty,2)\\cup(5,\\infty)",1),("x<2\\text{ or }x>5","2<x<5",0),("a<b","b>a",1),("-3<x\\le 4","(-3,4]",1),("-3<x\\le 4","[-3,4)",0),("|x-2|<3","-1<x<5",1),("x^2<4","-2<x<2",0),
("2^{10}","1024",1),("2^{-3}","0.125",1),("10^{-3}","0.001",1),("1.0\\times10^{3}","1000",1),("6.022\\times10^{23}","6.022e23",1),("6.022\\times10^{23}","6.022\\times10^{24}",0),("3.0\\times 10^{8}\\text{ m/s}","3\\times10^8\\text{ m/s}",1),
("7,8","7\\text{ and }8",1),("7,8","78",0),("7,8","(7,8)",0),("\\{7,8\\}","7,8",1),("1,234","1234",1),("1234","1.234",0),("123456","123,456",1),("123456","123.456",0),("1000000","1\\,000\\,000",1),("1000000","1 000 000",1),("0.001","1/1000",1),
("x^2","x^{2}",1),("x^{12}","x^12",1),("x_{10}","x_10",1),("ab","a\\cdot b",1),("abc","cba",1),("2a+3b","3b+2a",1),("\\frac{a}{b+c}","a/(b+c)",1),("\\frac{a}{b+c}","a/b+c",0),("a^2-b^2","(a-b)(a+b)",1),("n(n+1)","n^2+n",1),("\\frac{1}{x}+\\frac{1}{y}","\\frac{x+y}{xy}",1),("\\frac{1}{x}+\\frac{1}{y}","\\frac{1}{x+y}",0),
("\\text{Alice}","Alice and Bob",0),("\\text{Alice}","\\text{alice}",1),("\\text{Alice, Bob}","\\text{Bob, Alice}",0),("\\text{red}","\\text{dark red}",0),("\\text{isosceles}","isosceles",1),("\\text{Saturday}","Saturday",1),
("42","The answer is 42",1),("42","\\text{The answer is 42}",1),("42","42!",0),("42","42.0",1),("42","42,",1),("42","~42",1),("42","\\mathbf{42}",1),("42","\\underline{42}",1),("42","\\color{red}42",1),("42","\\textcolor{red}{42}",1),("42","\\displaystyle{42}",1),("42","\\Large 42",1),("42","\\left\\{42\\right\\}",1),("42","42\\checkmark",1),("42","\\fbox{42}",1),("42","\\mathrm{42}",1),("42","42\\quad",1),("42","4 2",0),("42","\\overline{42}",0),("42","42^\\circ",1),("42","42x^0",1),("-42","\\text{negative }42",0),("42","forty-two",0),
("8","\\frac{16}{2}",1),("8","2^3",1),("8","\\log_2 256",1),("8","\\sqrt{64}",1),("8","8\\pmod{10}",1),("8","|{-8}|",1),("8","\\lceil 7.2\\rceil",1),("8","\\text{eight}",0),("8","x \\equiv 8 \\pmod{10}",1),
("y=\\frac{x}{2}","x=2y",1),("y=\\frac{x}{2}","2y=x",1),("x=5","5=x",1),("x=5","x-5=0",0),("x=-b","x=b",0),("A=\\frac{1}{2}bh","A=\\frac{bh}{2}",1),("F=ma","a=\\frac{F}{m}",1),("y-3=2(x-1)","y=2x+1",1),("x^2=2y","y=\\frac{x^2}{2}",1),
("0","0.0",1),("0","-0",1),("0","\\emptyset",0),("0","\\{\\}",0),("0","0i",1),("0","0\\%",1),("0","\\sin 0",1),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer", "right"), ROWS)
def test_an_answer_of_any_kind(gold: str, answer: str, right: int) -> None:
    score = MathAnswer()(f"So we get $\\boxed{{{answer}}}$.", Task("t", "", gold))
    assert score.graded, score.reason
    assert score.value == right, score.reason
