/*
 * The guest's first instructions, its interrupt gates, and its other processors.
 *
 * Entered by the 64-bit Linux boot protocol: long mode, the first 4 GiB mapped one to one, the
 * GDT's code segment 0x10, rsi at boot_params, no stack.
 */
	.section .text.start, "ax"
	.globl	start
start:
	cli
	lea	stack_end(%rip), %rsp
	mov	%rsi, %rdi
	cld
	call	guest_main
1:	hlt
	jmp	1b

	.text
/* bool attempt(void (*fn)(uint64_t), uint64_t arg): false if fn took an exception. */
	.globl	attempt
attempt:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, recover_rsp(%rip)
	mov	%rdi, %rax
	mov	%rsi, %rdi
	sub	$8, %rsp
	call	*%rax
	add	$8, %rsp
	mov	$1, %eax
	jmp	1f
	.globl	recovered
recovered:
	xor	%eax, %eax
1:	movq	$0, recover_rsp(%rip)
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* 256 gates of 16 bytes: an error code where the processor pushes none, and the vector. */
	.p2align 4
	.globl	gates
gates:
	i = 0
	.rept	256
	.p2align 4
	.if	!((i == 8) || ((i >= 10) && (i <= 14)) || (i == 17) || (i == 21) || (i == 29) || (i == 30))
	push	$0
	.endif
	push	$i
	jmp	on_gate
	i = i + 1
	.endr

on_gate:
	push	%rax
	push	%rcx
	push	%rdx
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	mov	%rsp, %rdi
	cld
	call	on_interrupt
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq

/*
 * What another processor does, in real mode at PEER_AT with the arena as its data: for ever it
 * stores what the script at PEER_AT + 0x1000 says, pairs of le32 offset and le32 value that an
 * offset of 0 ends.
 */
	.code16
	.globl	peer_start, peer_end
peer_start:
	cli
	mov	$0x3000, %ax
	mov	%ax, %ds
1:	mov	$0x1000, %si
2:	mov	%cs:(%si), %di
	mov	%cs:4(%si), %eax
	add	$8, %si
	test	%di, %di
	jz	1b
	mov	%eax, (%di)
	jmp	2b
peer_end:
	.code64

	.bss
	.p2align 4
	.skip	65536
stack_end:
	.globl	recover_rsp
recover_rsp:
	.skip	8
