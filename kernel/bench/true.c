/* The smallest static program: what the bench executes. */
int main(void)
{
	return 0;
}
